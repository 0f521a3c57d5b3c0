import t from 'tap';
import { parseNftJson, parseNftText, readNftRule, type NftRuleset } from '../../agent/node-iptables/src/nft/index.ts';

/** Sets that the rules name, as both listings show them. */
const SETS_TEXT = `
	set s4 {
		type ipv4_addr
		flags interval
		elements = { 1.2.3.4, 10.0.0.0/8,
			     192.168.1.1-192.168.1.9 }
	}

	map vm {
		type ifname : verdict
		elements = { "lo" : accept,
			     "eth0" : jump sub,
			     "eni*" : drop }
	}

	set tout {
		type ipv4_addr
		flags timeout
		elements = { 10.9.9.8, 10.9.9.9 timeout 1h expires 59m59s972ms }
	}

	set dyn {
		type ipv4_addr
		size 4
		flags dynamic,timeout
		timeout 1m
	}
`;
const SETS_JSON = `
{"set": {"family": "inet", "name": "s4", "table": "t", "type": "ipv4_addr", "handle": 15, "flags": ["interval"], "elem": ["1.2.3.4", {"prefix": {"addr": "10.0.0.0", "len": 8}}, {"range": ["192.168.1.1", "192.168.1.9"]}]}},
{"map": {"family": "inet", "name": "vm", "table": "t", "type": "ifname", "handle": 24, "map": "verdict", "elem": [["lo", {"accept": null}], ["eth0", {"jump": {"target": "sub"}}], ["eni*", {"drop": null}]]}},
{"set": {"family": "inet", "name": "tout", "table": "t", "type": "ipv4_addr", "handle": 21, "flags": ["timeout"], "elem": ["10.9.9.8", {"elem": {"val": "10.9.9.9", "timeout": 3600, "expires": 3599}}]}},
{"set": {"family": "inet", "name": "dyn", "table": "t", "type": "ipv4_addr", "handle": 20, "size": 4, "flags": ["timeout"], "timeout": 60}},`;

/** Rules as nft 1.0.6 lists them, in text and with -j. */
const RULES: readonly (readonly [text: string, expr: string])[] = [
  ['iifname "eni*" ip daddr 169.254.169.254 counter packets 0 bytes 0 drop comment "hi there"', '[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eni*"}},{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"169.254.169.254"}},{"counter":{"packets":0,"bytes":0}},{"drop":null}]'],
  ['iifname { "eth0", "eth1" } accept', '[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":{"set":["eth0","eth1"]}}},{"accept":null}]'],
  ['iifname { "eth*", "lo" } accept', '[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":{"set":["eth*","lo"]}}},{"accept":null}]'],
  ['iifname != "eth0" accept', '[{"match":{"op":"!=","left":{"meta":{"key":"iifname"}},"right":"eth0"}},{"accept":null}]'],
  ['iif "lo" accept', '[{"match":{"op":"==","left":{"meta":{"key":"iif"}},"right":"lo"}},{"accept":null}]'],
  ['iif != "lo" accept', '[{"match":{"op":"!=","left":{"meta":{"key":"iif"}},"right":"lo"}},{"accept":null}]'],
  ['iifname . ip saddr { "lo" . 1.2.3.4 } accept', '[{"match":{"op":"==","left":{"concat":[{"meta":{"key":"iifname"}},{"payload":{"protocol":"ip","field":"saddr"}}]},"right":{"set":[{"concat":["lo","1.2.3.4"]}]}}},{"accept":null}]'],
  ['ip saddr 10.0.0.0/8 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.0.0","len":8}}}},{"accept":null}]'],
  ['ip saddr != 10.0.0.0/8 accept', '[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.0.0","len":8}}}},{"accept":null}]'],
  ['ip saddr 10.0.0.1-10.0.0.9 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"range":["10.0.0.1","10.0.0.9"]}}},{"accept":null}]'],
  ['ip saddr { 10.0.0.1, 10.0.0.3-10.0.0.9, 11.0.0.0/8 } accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"set":["10.0.0.1",{"range":["10.0.0.3","10.0.0.9"]},{"prefix":{"addr":"11.0.0.0","len":8}}]}}},{"accept":null}]'],
  ['ip saddr != { 10.0.0.1, 10.0.0.3 } accept', '[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"set":["10.0.0.1","10.0.0.3"]}}},{"accept":null}]'],
  ['ip saddr & 255.255.0.255 == 10.0.0.1 accept', '[{"match":{"op":"==","left":{"&":[{"payload":{"protocol":"ip","field":"saddr"}},"255.255.0.255"]},"right":"10.0.0.1"}},{"accept":null}]'],
  ['ip saddr > 10.0.0.1 accept', '[{"match":{"op":">","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"10.0.0.1"}},{"accept":null}]'],
  ['ip saddr @dyn accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"@dyn"}},{"accept":null}]'],
  ['ip saddr @tout accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"@tout"}},{"accept":null}]'],
  ['ip6 daddr fd00:ec2::254 drop', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"daddr"}},"right":"fd00:ec2::254"}},{"drop":null}]'],
  ['ip6 daddr fd00:ec2::/32 drop', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"daddr"}},"right":{"prefix":{"addr":"fd00:ec2::","len":32}}}},{"drop":null}]'],
  ['ip6 nexthdr tcp accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"nexthdr"}},"right":"tcp"}},{"accept":null}]'],
  ['ip6 nexthdr { tcp, udp, 200 } accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"nexthdr"}},"right":{"set":["tcp","udp",200]}}},{"accept":null}]'],
  ['ip protocol tcp accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"tcp"}},{"accept":null}]'],
  ['ip protocol != { icmp, 99 } accept', '[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":{"set":["icmp",99]}}},{"accept":null}]'],
  ['meta l4proto tcp accept', '[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"accept":null}]'],
  ['meta l4proto { tcp, udp } th dport 53 accept', '[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","udp"]}}},{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":53}},{"accept":null}]'],
  ['meta l4proto ipv6 accept', '[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"ipv6"}},{"accept":null}]'],
  ['meta nfproto ipv4 accept', '[{"match":{"op":"==","left":{"meta":{"key":"nfproto"}},"right":"ipv4"}},{"accept":null}]'],
  ['meta nfproto ipv6 tcp sport 1024-65535 accept', '[{"match":{"op":"==","left":{"meta":{"key":"nfproto"}},"right":"ipv6"}},{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"sport"}},"right":{"range":[1024,65535]}}},{"accept":null}]'],
  ['meta nfproto != ipv6 accept', '[{"match":{"op":"!=","left":{"meta":{"key":"nfproto"}},"right":"ipv6"}},{"accept":null}]'],
  ['meta protocol ip accept', '[{"match":{"op":"==","left":{"meta":{"key":"protocol"}},"right":"ip"}},{"accept":null}]'],
  ['ether type ip6 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ether","field":"type"}},"right":"ip6"}},{"accept":null}]'],
  ['tcp dport { 80, 443, 8000-9000 } accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"set":[80,443,{"range":[8000,9000]}]}}},{"accept":null}]'],
  ['tcp dport != 80 accept', '[{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"accept":null}]'],
  ['tcp dport >= 1024 accept', '[{"match":{"op":">=","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":1024}},{"accept":null}]'],
  ['tcp dport < 1024 accept', '[{"match":{"op":"<","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":1024}},{"accept":null}]'],
  ['udp dport 53 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}},{"accept":null}]'],
  ['th dport 53 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":53}},{"accept":null}]'],
  ['@ih,0,32 0x47455420 accept', '[{"match":{"op":"==","left":{"payload":{"base":"ih","offset":0,"len":32}},"right":1195725856}},{"accept":null}]'],
  ['sctp dport 5 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"sctp","field":"dport"}},"right":5}},{"accept":null}]'],
  ['icmp type echo-request accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"icmp","field":"type"}},"right":"echo-request"}},{"accept":null}]'],
  ['icmpv6 type { echo-request, nd-neighbor-solicit } accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"icmpv6","field":"type"}},"right":{"set":["echo-request","nd-neighbor-solicit"]}}},{"accept":null}]'],
  ['ct state new accept', '[{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"accept":null}]'],
  ['ct state established,related accept', '[{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},{"accept":null}]'],
  ['ct state { established, related } accept', '[{"match":{"op":"==","left":{"ct":{"key":"state"}},"right":{"set":["established","related"]}}},{"accept":null}]'],
  ['ct state != new accept', '[{"match":{"op":"!=","left":{"ct":{"key":"state"}},"right":"new"}},{"accept":null}]'],
  ['ct state != established | related accept', '[{"match":{"op":"!=","left":{"ct":{"key":"state"}},"right":{"|":["established","related"]}}},{"accept":null}]'],
  ['ct state ! established,related accept', '[{"match":{"op":"!","left":{"ct":{"key":"state"}},"right":["established","related"]}},{"accept":null}]'],
  ['ct state ! established accept', '[{"match":{"op":"!","left":{"ct":{"key":"state"}},"right":"established"}},{"accept":null}]'],
  ['ct state vmap { invalid : drop, established : accept, related : accept }', '[{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["invalid",{"drop":null}],["established",{"accept":null}],["related",{"accept":null}]]}}}]'],
  ['ct state vmap { invalid : goto sub, new : jump sub }', '[{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["invalid",{"goto":{"target":"sub"}}],["new",{"jump":{"target":"sub"}}]]}}}]'],
  ['ct direction original accept', '[{"match":{"op":"==","left":{"ct":{"key":"direction"}},"right":"original"}},{"accept":null}]'],
  ['ct direction reply accept', '[{"match":{"op":"==","left":{"ct":{"key":"direction"}},"right":"reply"}},{"accept":null}]'],
  ['ct status dnat accept', '[{"match":{"op":"in","left":{"ct":{"key":"status"}},"right":"dnat"}},{"accept":null}]'],
  ['ct status != dnat accept', '[{"match":{"op":"!=","left":{"ct":{"key":"status"}},"right":"dnat"}},{"accept":null}]'],
  ['ct status snat,dnat accept', '[{"match":{"op":"in","left":{"ct":{"key":"status"}},"right":["snat","dnat"]}},{"accept":null}]'],
  ['ct status ! snat,dnat accept', '[{"match":{"op":"!","left":{"ct":{"key":"status"}},"right":["snat","dnat"]}},{"accept":null}]'],
  ['ct mark 0x00000001 accept', '[{"match":{"op":"==","left":{"ct":{"key":"mark"}},"right":1}},{"accept":null}]'],
  ['ct mark & 0x000000ff == 0x00000010 accept', '[{"match":{"op":"==","left":{"&":[{"ct":{"key":"mark"}},255]},"right":16}},{"accept":null}]'],
  ['ct mark & 0x000000ff != 0x00000010 accept', '[{"match":{"op":"!=","left":{"&":[{"ct":{"key":"mark"}},255]},"right":16}},{"accept":null}]'],
  ['meta mark 0x00000001 accept', '[{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":1}},{"accept":null}]'],
  ['meta mark != 0x00000001 accept', '[{"match":{"op":"!=","left":{"meta":{"key":"mark"}},"right":1}},{"accept":null}]'],
  ['meta mark & 0x00000010 == 0x00000010 accept', '[{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},16]},"right":16}},{"accept":null}]'],
  ['meta mark & 0x00000010 != 0x00000000 accept', '[{"match":{"op":"!=","left":{"&":[{"meta":{"key":"mark"}},16]},"right":0}},{"accept":null}]'],
  ['meta mark & 0x000000f0 != 0x00000010 accept', '[{"match":{"op":"!=","left":{"&":[{"meta":{"key":"mark"}},240]},"right":16}},{"accept":null}]'],
  ['meta mark > 0x00000005 accept', '[{"match":{"op":">","left":{"meta":{"key":"mark"}},"right":5}},{"accept":null}]'],
  ['meta mark { 0x00000001, 0x00000002 } accept', '[{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":{"set":[1,2]}}},{"accept":null}]'],
  ['meta mark 0x00000001-0x00000005 accept', '[{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":{"range":[1,5]}}},{"accept":null}]'],
  ['meta mark set 0x00000010', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":16}}]'],
  ['meta mark set meta mark | 0x00000010', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"meta":{"key":"mark"}},16]}}}]'],
  ['meta mark set meta mark & 0x000000ff', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"&":[{"meta":{"key":"mark"}},255]}}}]'],
  ['meta mark set meta mark & 0x000001ff | 0x00000100', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},511]},256]}}}]'],
  ['meta mark set meta mark ^ 0x00000001', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"^":[{"meta":{"key":"mark"}},1]}}}]'],
  ['meta mark set meta mark & 0xffff0010 | 0x00000010', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},4294901776]},16]}}}]'],
  ['meta mark set ct mark', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"ct":{"key":"mark"}}}}]'],
  ['meta mark set ct mark & 0x000000ff', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"&":[{"ct":{"key":"mark"}},255]}}}]'],
  ['ct mark set meta mark', '[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"meta":{"key":"mark"}}}}]'],
  ['ct mark set meta mark & 0x00000080', '[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"&":[{"meta":{"key":"mark"}},128]}}}]'],
  ['ct mark set ct mark | 0x00000001', '[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"|":[{"ct":{"key":"mark"}},1]}}}]'],
  ['ct mark set meta mark & 0x000001ff | 0x00000100', '[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},511]},256]}}}]'],
  ['meta mark set jhash ip saddr mod 5', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"jhash":{"mod":5,"expr":{"payload":{"protocol":"ip","field":"saddr"}}}}}}]'],
  ['meta mark set numgen inc mod 3', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"numgen":{"mode":"inc","mod":3,"offset":0}}}}]'],
  ['meta mark set ip saddr map { 1.2.3.4 : 0x00000005, 1.2.3.5 : 0x00000006 }', '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"map":{"key":{"payload":{"protocol":"ip","field":"saddr"}},"data":{"set":[["1.2.3.4",5],["1.2.3.5",6]]}}}}}]'],
  ['tcp flags syn accept', '[{"match":{"op":"in","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}},{"accept":null}]'],
  ['tcp flags syn / fin,syn,rst,ack accept', '[{"match":{"op":"==","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn","rst","ack"]]},"right":"syn"}},{"accept":null}]'],
  ['tcp flags syn,ack accept', '[{"match":{"op":"in","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":["syn","ack"]}},{"accept":null}]'],
  ['tcp flags != syn accept', '[{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}},{"accept":null}]'],
  ['tcp flags fin,syn accept', '[{"match":{"op":"in","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":["fin","syn"]}},{"accept":null}]'],
  ['tcp flags fin,syn / fin,syn accept', '[{"match":{"op":"==","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn"]]},"right":["fin","syn"]}},{"accept":null}]'],
  ['tcp flags & syn == syn accept', '[{"match":{"op":"==","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},"syn"]},"right":"syn"}},{"accept":null}]'],
  ['tcp flags ! syn accept', '[{"match":{"op":"!","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}},{"accept":null}]'],
  ['tcp flags == syn accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}},{"accept":null}]'],
  ['tcp flags { syn | ack, syn } accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":{"set":[{"|":["syn","ack"]},"syn"]}}},{"accept":null}]'],
  ['fib daddr type local accept', '[{"match":{"op":"==","left":{"fib":{"result":"type","flags":["daddr"]}},"right":"local"}},{"accept":null}]'],
  ['fib daddr type != local accept', '[{"match":{"op":"!=","left":{"fib":{"result":"type","flags":["daddr"]}},"right":"local"}},{"accept":null}]'],
  ['fib daddr type { local, broadcast } accept', '[{"match":{"op":"==","left":{"fib":{"result":"type","flags":["daddr"]}},"right":{"set":["local","broadcast"]}}},{"accept":null}]'],
  ['fib saddr type local accept', '[{"match":{"op":"==","left":{"fib":{"result":"type","flags":["saddr"]}},"right":"local"}},{"accept":null}]'],
  ['fib saddr . iif oif missing drop', '[{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","iif"]}},"right":false}},{"drop":null}]'],
  ['fib saddr . mark . iif oif 0 drop', '[{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","mark","iif"]}},"right":"0"}},{"drop":null}]'],
  ['fib saddr . iif oif exists accept', '[{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","iif"]}},"right":true}},{"accept":null}]'],
  ['meta pkttype host accept', '[{"match":{"op":"==","left":{"meta":{"key":"pkttype"}},"right":"host"}},{"accept":null}]'],
  ['meta pkttype { broadcast, multicast } drop', '[{"match":{"op":"==","left":{"meta":{"key":"pkttype"}},"right":{"set":["broadcast","multicast"]}}},{"drop":null}]'],
  ['limit rate 5/second accept', '[{"limit":{"rate":5,"burst":5,"per":"second"}},{"accept":null}]'],
  ['limit rate over 5/minute burst 10 packets drop', '[{"limit":{"rate":5,"burst":10,"per":"minute","inv":true}},{"drop":null}]'],
  ['limit name "lim1" accept', '[{"limit":"lim1"},{"accept":null}]'],
  ['quota over 10 mbytes drop', '[{"quota":{"val":10,"val_unit":"mbytes","inv":true}},{"drop":null}]'],
  ['quota name "q1" drop', '[{"quota":"q1"},{"drop":null}]'],
  ['counter name "cnt" accept', '[{"counter":"cnt"},{"accept":null}]'],
  ['ct count over 10 drop', '[{"ct count":{"val":10,"inv":true}},{"drop":null}]'],
  ['notrack', '[{"notrack":null}]'],
  ['tcp option maxseg size set 1400', '[{"mangle":{"key":{"tcp option":{"name":"maxseg","field":"size"}},"value":1400}}]'],
  ['tcp option maxseg size set rt mtu', '[{"mangle":{"key":{"tcp option":{"name":"maxseg","field":"size"}},"value":{"rt":{"key":"mtu"}}}}]'],
  ['tcp flags syn tcp option maxseg size set rt mtu', '[{"match":{"op":"in","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}},{"mangle":{"key":{"tcp option":{"name":"maxseg","field":"size"}},"value":{"rt":{"key":"mtu"}}}}]'],
  ['ip ttl 1 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"ttl"}},"right":1}},{"accept":null}]'],
  ['ip ttl < 5 drop', '[{"match":{"op":"<","left":{"payload":{"protocol":"ip","field":"ttl"}},"right":5}},{"drop":null}]'],
  ['ip dscp cs1 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"dscp"}},"right":"cs1"}},{"accept":null}]'],
  ['ip dscp set cs2', '[{"mangle":{"key":{"payload":{"protocol":"ip","field":"dscp"}},"value":"cs2"}}]'],
  ['ip length > 500 accept', '[{"match":{"op":">","left":{"payload":{"protocol":"ip","field":"length"}},"right":500}},{"accept":null}]'],
  ['meta length > 500 accept', '[{"match":{"op":">","left":{"meta":{"key":"length"}},"right":500}},{"accept":null}]'],
  ['meta skuid 0 accept', '[{"match":{"op":"==","left":{"meta":{"key":"skuid"}},"right":0}},{"accept":null}]'],
  ['meta priority set 1:2', '[{"mangle":{"key":{"meta":{"key":"priority"}},"value":"1:2"}}]'],
  ['meta nftrace set 1', '[{"mangle":{"key":{"meta":{"key":"nftrace"}},"value":1}}]'],
  ['ct zone 5 accept', '[{"match":{"op":"==","left":{"ct":{"key":"zone"}},"right":5}},{"accept":null}]'],
  ['ct expiration 1m accept', '[{"match":{"op":"==","left":{"ct":{"key":"expiration"}},"right":60}},{"accept":null}]'],
  ['ct original ip saddr 1.2.3.4 accept', '[{"match":{"op":"==","left":{"ct":{"key":"ip saddr","dir":"original"}},"right":"1.2.3.4"}},{"accept":null}]'],
  ['ct bytes > 100 accept', '[{"match":{"op":">","left":{"ct":{"key":"bytes"}},"right":100}},{"accept":null}]'],
  ['ip frag-off & 8191 != 0 accept', '[{"match":{"op":"!=","left":{"&":[{"payload":{"protocol":"ip","field":"frag-off"}},8191]},"right":0}},{"accept":null}]'],
  ['ip version 4 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"version"}},"right":4}},{"accept":null}]'],
  ['meta cpu 1 accept', '[{"match":{"op":"==","left":{"meta":{"key":"cpu"}},"right":1}},{"accept":null}]'],
  ['meta rtclassid 1 accept', '[{"match":{"op":"==","left":{"meta":{"key":"rtclassid"}},"right":"1"}},{"accept":null}]'],
  ['iifgroup 5 accept', '[{"match":{"op":"==","left":{"meta":{"key":"iifgroup"}},"right":5}},{"accept":null}]'],
  ['meta iiftype ether accept', '[{"match":{"op":"==","left":{"meta":{"key":"iiftype"}},"right":"ether"}},{"accept":null}]'],
  ['meta day "Monday" accept', '[{"match":{"op":"==","left":{"meta":{"key":"day"}},"right":"Monday"}},{"accept":null}]'],
  ['exthdr frag exists accept', '[{"match":{"op":"==","left":{"exthdr":{"name":"frag"}},"right":true}},{"accept":null}]'],
  ['add @dyn { ip saddr } accept', '[{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@dyn"}},{"accept":null}]'],
  ['update @dyn { ip saddr limit rate 5/second } accept', '[{"set":{"op":"update","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@dyn","stmt":[{"limit":{"rate":5,"burst":5,"per":"second"}}]}},{"accept":null}]'],
  ['delete @dyn { ip saddr } accept', '[{"set":{"op":"delete","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@dyn"}},{"accept":null}]'],
  ['add @dyn { ip saddr }', '[{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@dyn"}}]'],
  ['ip saddr . tcp dport { 1.2.3.4 . 80, 1.2.3.5 . 443 } accept', '[{"match":{"op":"==","left":{"concat":[{"payload":{"protocol":"ip","field":"saddr"}},{"payload":{"protocol":"tcp","field":"dport"}}]},"right":{"set":[{"concat":["1.2.3.4",80]},{"concat":["1.2.3.5",443]}]}}},{"accept":null}]'],
  ['iifname vmap @vm', '[{"vmap":{"key":{"meta":{"key":"iifname"}},"data":"@vm"}}]'],
  ['tcp dport vmap { 22 : accept, 80 : jump sub, 100-200 : drop }', '[{"vmap":{"key":{"payload":{"protocol":"tcp","field":"dport"}},"data":{"set":[[22,{"accept":null}],[80,{"jump":{"target":"sub"}}],[{"range":[100,200]},{"drop":null}]]}}}]'],
  ['meta mark vmap { 0x00000001 : accept, 0x00000002 : drop }', '[{"vmap":{"key":{"meta":{"key":"mark"}},"data":{"set":[[1,{"accept":null}],[2,{"drop":null}]]}}}]'],
  ['meta l4proto vmap { tcp : jump sub, udp : accept }', '[{"vmap":{"key":{"meta":{"key":"l4proto"}},"data":{"set":[["tcp",{"jump":{"target":"sub"}}],["udp",{"accept":null}]]}}}]'],
  ['meta l4proto tcp reject with tcp reset', '[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"reject":{"type":"tcp reset"}}]'],
  ['reject with icmpx admin-prohibited', '[{"reject":{"type":"icmpx","expr":"admin-prohibited"}}]'],
  ['reject with icmp host-unreachable', '[{"reject":{"type":"icmp","expr":"host-unreachable"}}]'],
  ['iifname "eth0" counter packets 5 bytes 6 jump sub', '[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth0"}},{"counter":{"packets":5,"bytes":6}},{"jump":{"target":"sub"}}]'],
  ['iifname "eth0" goto sub', '[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth0"}},{"goto":{"target":"sub"}}]'],
  ['return', '[{"return":null}]'],
  ['continue', '[{"continue":null}]'],
  ['accept', '[{"accept":null}]'],
  ['drop', '[{"drop":null}]'],
  ['tcp dport 80 dnat ip to 1.2.3.4:8080', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"dnat":{"family":"ip","addr":"1.2.3.4","port":8080}}]'],
  ['tcp dport 81 dnat ip6 to [fd00::1]:80', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":81}},{"dnat":{"family":"ip6","addr":"fd00::1","port":80}}]'],
  ['tcp dport 9 redirect to :8080', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":9}},{"redirect":{"port":8080}}]'],
  ['tcp dport 80 redirect to :3000-4000 random', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"redirect":{"port":{"range":[3000,4000]},"flags":"random"}}]'],
  ['dnat ip to ip saddr map { 1.2.3.4 : 5.6.7.8 }', '[{"dnat":{"family":"ip","addr":{"map":{"key":{"payload":{"protocol":"ip","field":"saddr"}},"data":{"set":[["1.2.3.4","5.6.7.8"]]}}}}}]'],
  ['dnat ip to 1.2.3.4-1.2.3.8 persistent', '[{"dnat":{"family":"ip","addr":{"range":["1.2.3.4","1.2.3.8"]},"flags":"persistent"}}]'],
  ['masquerade', '[{"masquerade":null}]'],
  ['masquerade fully-random', '[{"masquerade":{"flags":"fully-random"}}]'],
  ['oifname "eth0" snat ip to 1.2.3.4', '[{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"eth0"}},{"snat":{"family":"ip","addr":"1.2.3.4"}}]'],
  ['tcp dport 9 snat ip to 1.2.3.4:1-5 random', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":9}},{"snat":{"family":"ip","addr":"1.2.3.4","port":{"range":[1,5]},"flags":"random"}}]'],
  ['tcp dport 9 masquerade to :1024-65535', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":9}},{"masquerade":{"port":{"range":[1024,65535]}}}]'],
  ['tcp dport 80 tproxy to :5000', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"tproxy":{"port":5000}}]'],
  ['tcp dport 80 tproxy ip to 1.2.3.4:5000 accept', '[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"tproxy":{"family":"ip","addr":"1.2.3.4","port":5000}},{"accept":null}]'],
  ['ip daddr 1.1.1.1 iifname != "br0" drop', '[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"1.1.1.1"}},{"match":{"op":"!=","left":{"meta":{"key":"iifname"}},"right":"br0"}},{"drop":null}]'],
];

t.test('the text and the JSON of a ruleset mean the same', (t) => {
  const text = parseNftText(`table inet t {${SETS_TEXT}\n\tchain c {\n${RULES.map(([line]) => `\t\t${line}\n`).join('')}\t}\n}\n`);
  const json = parseNftJson(
    `{"nftables": [${SETS_JSON}${RULES.map(([, expr], at) => `{"rule": {"family": "inet", "table": "t", "chain": "c", "handle": ${at}, "expr": ${expr}}}`).join(',')}]}`,
  );
  t.same(text.unread, []);
  t.same(json.unread, []);
  t.equal(rulesOf(text).length, RULES.length);
  for (const [at, [line]] of RULES.entries()) {
    for (const family of ['ipv4', 'ipv6'] as const) {
      for (const conntrack of ['unordered', 'ordered'] as const) t.same(programs(text, at, family, conntrack), programs(json, at, family, conntrack), `${line} (${family}, conntrack ${conntrack})`);
    }
  }
  t.end();
});

function rulesOf(ruleset: NftRuleset) {
  return ruleset.tables[0]!.chains.get('c')!.rules;
}
function programs(ruleset: NftRuleset, at: number, family: 'ipv4' | 'ipv6', conntrack: 'unordered' | 'ordered'): unknown {
  return withoutWhy(readNftRule(rulesOf(ruleset)[at]!, { table: ruleset.tables[0]!, family, conntrack }));
}

/** The two forms may differ in how they name a doubt. */
function withoutWhy(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, part: unknown) => (typeof part === 'bigint' ? part.toString() : key === 'why' ? '' : part)));
}

t.test('elements, types and timeouts are read alike', (t) => {
  const text = parseNftText(`table inet t {${SETS_TEXT}}`).tables[0]!.sets;
  const json = parseNftJson(`{"nftables": [${SETS_JSON.replace(/,$/, '')}]}`).tables[0]!.sets;
  t.same([...text.keys()], [...json.keys()]);
  for (const [name, set] of text) {
    const other = json.get(name)!;
    t.equal(set.keyType, other.keyType, name);
    t.equal(set.dataType, other.dataType, name);
    t.equal(set.hasTimeout, other.hasTimeout, name);
    t.equal(set.elements.length, other.elements.length, name);
    t.same(set.unread, [], name);
  }
  t.end();
});

/** Small and repeatable (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

t.test('no text makes a reader throw', (t) => {
  const seed = 20240817;
  const random = randomFrom(seed);
  const text = `table inet t {${SETS_TEXT}\n\tchain c {\n\t\ttype filter hook forward priority filter - 5; policy drop;\n${RULES.map(([line]) => `\t\t${line}\n`).join('')}\t}\n}\n`;
  const json = `{"nftables": [${SETS_JSON}${RULES.map(([, expr], at) => `{"rule": {"family": "inet", "table": "t", "chain": "c", "handle": ${at}, "expr": ${expr}}}`).join(',')}]}`;
  const snippets = ['{', '}', '"', '#', '\n', ';', '(', ')', '@', ' . ', ' vmap ', ' map ', '-', '/', ',', '[', ']', ':', 'null', '0xffffffffff', '\\', '*', ' elements = ', '\u0000'];
  for (let round = 0; round < 300; round++) {
    for (const [source, parse] of [[text, parseNftText], [json, parseNftJson]] as const) {
      let mutated = source;
      for (let cuts = 1 + Math.floor(random() * 4); cuts > 0; cuts--) {
        const at = Math.floor(random() * mutated.length);
        const length = random() < 0.2 ? Math.floor(random() * 2000) : Math.floor(random() * 4);
        mutated = mutated.slice(0, at) + (random() < 0.7 ? snippets[Math.floor(random() * snippets.length)]! : '') + mutated.slice(at + length);
      }
      try {
        readAll(parse(mutated));
      } catch (cause) {
        t.fail(`seed ${seed}, round ${round}: ${String(cause)}`, { mutated: mutated.slice(0, 2000) });
      }
    }
  }
  t.pass(`seed ${seed}`);
  t.end();
});

t.test('values of any shape, in any place, make no reader throw', (t) => {
  const seed = 7;
  const random = randomFrom(seed);
  const odd: readonly unknown[] = [null, true, -1, 1e99, '', '@', '@none', '*', [], {}, [[]], { set: null }, { set: [null, [null], {}] }, { '&': [] }, { '|': [1] }, { prefix: {} }, { range: [] }, { concat: [] }, { elem: null }, { map: {} }, { payload: null }, { ct: { key: 7 } }, { meta: [] }, { fib: {} }];
  const change = (value: unknown): unknown => {
    if (random() < 0.08) return odd[Math.floor(random() * odd.length)];
    if (Array.isArray(value)) return value.map(change);
    if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, change(part)]));
    return value;
  };
  for (let round = 0; round < 60; round++) {
    const rules = RULES.map(([, expr], at) => ({ rule: { family: 'inet', table: 't', chain: 'c', handle: at, expr: change(JSON.parse(expr)) } }));
    const sets = (JSON.parse(`[${SETS_JSON.replace(/,$/, '')}]`) as unknown[]).map(change);
    try {
      readAll(parseNftJson(JSON.stringify({ nftables: [...sets, ...rules] })));
    } catch (cause) {
      t.fail(`seed ${seed}, round ${round}: ${(cause as Error).stack}`);
    }
  }
  t.pass(`seed ${seed}`);
  for (const deep of ['{"a":', '['].map((open) => open.repeat(20000))) readAll(parseNftJson(`{"nftables": [${deep}`));
  const nest = (levels: number): string => '{"&":['.repeat(levels) + '1' + ']}'.repeat(levels);
  readAll(parseNftJson(`{"nftables": [{"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"match": {"op": "==", "left": ${nest(3000)}, "right": 1}}]}}]}`));
  for (const word of ['( ', '{ ', 'jhash ', 'ip saddr . ', 'meta mark & ', 'table ip t {\n chain c {\n']) readAll(parseNftText(`table ip t {\n chain c {\n meta mark set ${word.repeat(20000)}`));
  t.end();
});

function readAll(ruleset: NftRuleset): void {
  for (const table of ruleset.tables) {
    for (const chain of table.chains.values()) {
      for (const rule of chain.rules) {
        void rule.text;
        for (const family of ['ipv4', 'ipv6'] as const) readNftRule(rule, { table, family, conntrack: 'ordered' });
      }
    }
  }
}
