import t from 'tap';
import { existsSync, readFileSync } from 'node:fs';
import { nftBaseChains, offPath, parseNftJson, parseNftText, type NftRuleset } from '../../agent/node-iptables/src/nft/index.ts';
import { CT_STATE, type PacketClass, TCP, anyPacket } from '../../agent/node-iptables/src/packet/packet-class.ts';
import { parseIPv4, parseIPv6 } from '../../agent/node-iptables/src/sets/address.ts';
import { interval } from '../../agent/node-iptables/src/sets/interval-set.ts';
import { knownBits } from '../../agent/node-iptables/src/sets/bits.ts';
import { nameSet } from '../../agent/node-iptables/src/sets/name-set.ts';
import { Effort, walkBase } from '../../agent/node-iptables/src/trace/walk.ts';

const imds = parseIPv4('169.254.169.254')!;
const source = parseIPv4('10.0.0.7')!;
/** A pod asks the metadata service. */
const toImds: PacketClass = {
  ...anyPacket('ipv4'),
  tracked: true,
  iif: nameSet('eni1'), oif: nameSet('eth0'),
  src: interval(source, source + 1), dst: interval(imds, imds + 1), proto: TCP, dport: interval(80, 81),
};
const imds6 = parseIPv6('fd00:ec2::254')!;
const toImds6: PacketClass = { ...anyPacket('ipv6'), tracked: true, iif: nameSet('eni1'), oif: nameSet('eth0'), dst: interval(imds6, imds6 + 1n), proto: TCP, dport: interval(80, 81) };

/** `blocked`: no packet passes. `passes`: some do for certain. `perhaps`: only doubtful ones do. */
function fate(ruleset: NftRuleset, packet: PacketClass = toImds): 'blocked' | 'passes' | 'perhaps' | 'redirected' {
  let passing: readonly PacketClass[] = [packet];
  let redirected = false;
  for (const base of nftBaseChains(ruleset, packet.family, () => true)) {
    passing = walkBase(base, passing, { dropped: () => {}, redirected: () => { redirected = true; } }, new Effort()).passed;
  }
  if (passing.length === 0) return redirected ? 'redirected' : 'blocked';
  return passing.some((one) => one.doubts === undefined) ? 'passes' : 'perhaps';
}

const forward = (rules: string, more = '', head = 'type filter hook forward priority filter; policy accept;'): NftRuleset =>
  parseNftText(`table inet t {\n${more}\n\tchain c {\n\t\t${head}\n${rules.split('\n').map((rule) => `\t\t${rule}\n`).join('')}\t}\n}\n`);

const decided: readonly (readonly [rules: string, fate: ReturnType<typeof fate>, packet?: PacketClass])[] = [
  ['ip daddr 169.254.169.254 drop', 'blocked'],
  ['iifname "eni*" ip daddr 169.254.169.254 counter packets 0 bytes 0 drop', 'blocked'],
  ['iifname "veth*" ip daddr 169.254.169.254 drop', 'passes'],
  ['ip daddr 169.254.0.0/16 tcp dport { 80, 443 } reject with tcp reset', 'blocked'],
  ['ip daddr != 10.0.0.0/8 drop', 'blocked'],
  ['udp dport 80 drop', 'passes'],
  // `!=` on a field of another protocol matches no packet of this one.
  ['udp dport != 53 drop', 'passes'],
  ['ip6 daddr != ::1 drop', 'passes'],
  ['meta nfproto ipv4 drop', 'blocked'],
  ['meta nfproto ipv6 drop', 'passes'],
  ['ip6 daddr fd00:ec2::254 drop', 'blocked', toImds6],
  ['ip6 daddr fd00:ec2::254 ip6 nexthdr tcp drop', 'perhaps', toImds6],
  ['ip6 daddr fd00:ec2::254 meta l4proto tcp drop', 'blocked', toImds6],
  ['ct state established,related accept\ndrop', 'blocked'],
  ['ct state vmap { invalid : drop, established : accept, new : drop }', 'blocked'],
  // One state is never two, so this asks nothing (nft prints it so for `ct state != established,related`).
  ['ct state != established | related drop', 'blocked'],
  ['ct status != dnat drop', 'blocked'],
  ['ct status dnat accept\ndrop', 'passes'],
  ['ct direction reply accept\ndrop', 'blocked'],
  ['ct direction original drop', 'passes', { ...toImds, ctstate: CT_STATE.UNTRACKED }],
  ['ct direction != reply drop', 'passes', { ...toImds, ctstate: CT_STATE.UNTRACKED }],
  ['limit rate over 5/second drop', 'perhaps'],
  ['limit rate 5/second accept\ndrop', 'perhaps'],
  ['nonsense words here drop', 'perhaps'],
  ['nonsense words here', 'perhaps'],
  ['drop # recent', 'perhaps'],
  ['drop # handle 12', 'blocked'],
  ['xt match "comment" drop', 'perhaps'],
  ['ip daddr 169.254.169.254 jump { drop }', 'perhaps'],
  ['meta mark set 0x10\nmeta mark & 0x000000f0 == 0x00000010 drop', 'blocked'],
  ['meta mark set meta mark | 0x00010000\nmeta mark & 0x00010000 != 0x00000000 drop', 'blocked'],
  ['meta mark set meta mark & 0x0000ff00 | 0x00000003\nmeta mark 0x00000103 drop', 'blocked', { ...toImds, mark: knownBits(0x5678_0100) }],
  ['meta mark set meta mark ^ 0x00000001\nmeta mark set meta mark ^ 0x00000001\nmeta mark 0x00000000 drop', 'blocked'],
  ['meta mark set ct mark & 0x000000ff\nmeta mark 0x00000034 drop', 'blocked', { ...toImds, connmark: knownBits(0x1234) }],
  ['meta mark set numgen inc mod 2\nmeta mark 0x00000001 drop', 'passes'],
  ['meta mark > 0x00000005 accept\ndrop', 'blocked'],
  ['meta mark 0x00000004-0x00000009 drop', 'blocked', { ...toImds, mark: knownBits(7) }],
  ['tcp flags syn / fin,syn,rst,ack drop', 'blocked', { ...toImds, flags: knownBits(2) }],
  ['tcp flags syn,ack drop', 'blocked', { ...toImds, flags: knownBits(16) }],
  ['tcp flags == syn drop', 'passes', { ...toImds, flags: knownBits(18) }],
  ['fib daddr type local accept\ndrop', 'blocked'],
  ['fib saddr . iif oif missing drop', 'perhaps'],
  ['meta pkttype { broadcast, multicast } accept\ndrop', 'blocked'],
  ['ip daddr set 10.0.0.1\ndrop', 'perhaps'],
  ['queue num 5', 'perhaps'],
  ['ip saddr . tcp dport vmap { 10.0.0.7 . 80 : drop }', 'blocked'],
  ['ip saddr . tcp dport vmap { 10.0.0.7 . 81 : drop }', 'passes'],
  ['iifname vmap { "eth9" : accept, * : drop }', 'blocked'],
  ['iifname vmap { "eni1" : accept, * : drop }', 'passes'],
  ['iifname vmap @nowhere', 'perhaps'],
  ['iifname @nowhere drop', 'perhaps'],
  ['tcp dport 80 redirect to :8080', 'redirected'],
  ['tcp dport 80 dnat ip6 to [fd00::1]:80', 'passes'],
  ['dnat ip to ip saddr map { 10.0.0.9 : 10.0.0.1 }', 'passes'],
  ['dnat ip to ip saddr map { 10.0.0.7 : 10.0.0.1 }', 'redirected'],
];

t.test('rules decide what passes', (t) => {
  for (const [rules, expected, packet] of decided) t.equal(fate(forward(rules), packet), expected, rules.replace('\n', '; '));
  t.end();
});

t.test('named sets decide by what they list, and only when nothing else fills them', (t) => {
  const drop = 'ip daddr @hidden drop';
  const set = (inside: string): string => `\tset hidden {\n\t\ttype ipv4_addr\n${inside}\n\t}\n`;
  t.equal(fate(forward(drop, set('\t\telements = { 169.254.169.254 }'))), 'blocked');
  t.equal(fate(forward(drop, set('\t\tflags interval\n\t\telements = { 10.0.0.0/8,\n\t\t\t     169.254.0.0/16 }'))), 'blocked');
  t.equal(fate(forward(drop, set(''))), 'passes');
  t.equal(fate(forward(drop, set('\t\tflags dynamic\n\t\telements = { 169.254.169.254 }'))), 'perhaps');
  t.equal(fate(forward(drop, set('\t\ttimeout 1m\n\t\telements = { 169.254.169.254 expires 59s }'))), 'perhaps');
  t.equal(fate(forward(drop, set('\t\telements = { 169.254.169.254 timeout 1h }'))), 'perhaps');
  t.equal(fate(forward(drop, set('\t\telements = { 169.254.169.254 limit rate 1/second }'))), 'perhaps');
  t.equal(fate(forward(drop, set('\t\telements = { 169.254.169.254 counter packets 0 bytes 0 comment "a, b" }'))), 'blocked');
  t.not(forward(drop, set('\t\telements = { 169.254.169.254')).unread.length, 0, 'a text that ends in the set is told');
  t.equal(fate(forward(`update @hidden { ip saddr }\n${drop}`, set('\t\telements = { 169.254.169.254 }'))), 'perhaps', 'rules fill it, though its flags are not listed');
  t.end();
});

t.test('a full set ends the rule before its drop', (t) => {
  const set = '\tset clients {\n\t\ttype ipv4_addr\n\t\tsize 4\n\t\tflags dynamic\n\t}\n';
  t.equal(fate(forward('update @clients { ip saddr } drop', set)), 'perhaps');
  t.equal(fate(forward('update @clients { ip saddr }\ndrop', set)), 'blocked');
  t.equal(fate(forward('update @clients { ip saddr }', set)), 'passes', 'counting alone leaves no doubt behind');
  t.end();
});

t.test('chains are called by maps of verdicts, and come back to the next rule', (t) => {
  const map = (verdict: string): string => `\tmap pods {\n\t\ttype ifname : verdict\n\t\telements = { "eni1" : ${verdict} }\n\t}\n\n\tchain pod {\n\t\tip daddr 169.254.169.254 drop\n\t}\n\n\tchain open {\n\t\treturn\n\t}\n`;
  t.equal(fate(forward('iifname vmap @pods', map('jump pod'))), 'blocked');
  t.equal(fate(forward('iifname vmap @pods\ndrop', map('jump open'))), 'blocked');
  t.equal(fate(forward('iifname vmap @pods\ndrop', map('goto open'))), 'passes');
  t.equal(fate(forward('iifname vmap @pods\ndrop', map('accept'))), 'passes');
  t.equal(fate(forward('iifname vmap @pods', map('jump gone'))), 'perhaps');
  t.equal(fate(forward('meta mark set 0x1 iifname vmap @pods\nmeta mark 0x1 drop', map('jump open'))), 'blocked', 'a mark set before the map stays');
  t.equal(fate(forward('tcp dport 80 iifname vmap @pods', map('jump pod'))), 'blocked', 'a question before the map');
  t.equal(fate(forward('udp dport 80 iifname vmap @pods', map('jump pod'))), 'passes');
  t.end();
});

t.test('a map is entered once, even when its first chain changes what it looks at', (t) => {
  const chain = '\tchain first {\n\t\tmeta mark set 0x2\n\t}\n\n\tchain second {\n\t\tdrop\n\t}\n';
  t.not(fate(forward('meta mark vmap { 0x1 : jump first, 0x2 : jump second }', chain), { ...toImds, mark: knownBits(1) }), 'blocked');
  t.equal(fate(forward('meta mark vmap { 0x1 : jump first, 0x2 : drop }', chain), { ...toImds, mark: knownBits(1) }), 'passes');
  t.end();
});

t.test('before conntrack every packet is invalid, and beside it nobody knows', (t) => {
  const raw = 'type filter hook prerouting priority raw; policy accept;';
  const mangle = 'type filter hook prerouting priority mangle; policy accept;';
  const beside = 'type filter hook prerouting priority -200; policy accept;';
  const unseen = { ...toImds, tracked: false };
  t.equal(fate(forward('ct state new drop', '', raw), unseen), 'passes');
  t.equal(fate(forward('ct state invalid drop', '', raw), unseen), 'blocked');
  t.equal(fate(forward('ct status != dnat drop', '', raw), unseen), 'passes');
  t.equal(fate(forward('meta mark set ct mark drop', '', raw), unseen), 'passes');
  t.equal(fate(forward('ct state new drop', '', beside)), 'perhaps');
  t.equal(fate(forward('ct mark set 0x1\nct mark 0x1 drop', '', beside)), 'perhaps');
  t.equal(fate(forward('ct state new drop', '', mangle)), 'blocked');
  t.equal(fate(forward('ip daddr 169.254.169.254 drop', '', raw)), 'blocked');
  t.end();
});

t.test('a policy is the last rule', (t) => {
  const chains = nftBaseChains(forward('ct state established accept', '', 'type filter hook forward priority srcnat + 10; policy drop;'), 'ipv4', () => true);
  t.equal(chains[0]!.policy.text, 'policy drop');
  t.equal(chains[0]!.policy.number, 0);
  t.equal(chains[0]!.priority, 110);
  t.equal(fate(forward('ct state established accept', '', 'type filter hook forward priority filter; policy drop;')), 'blocked');
  t.end();
});

t.test('a dormant table blocks nothing, and one that may be dormant proves nothing', (t) => {
  const text = (flags: string): NftRuleset => forward('drop', flags);
  t.equal(fate(text('\tflags dormant')), 'passes');
  t.equal(fate(text('\tflags owner')), 'blocked');
  const json = (flags: string, version = '1.0.6'): NftRuleset =>
    parseNftJson(`{"nftables": [{"metainfo": {"version": "${version}"}}, {"table": {"family": "inet", "name": "q", "handle": 1${flags}}}, {"chain": {"family": "inet", "table": "q", "name": "c", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}]}`);
  t.equal(fate(json('')), 'blocked');
  t.equal(fate(json(', "flags": "Lester Gooch #5"')), 'perhaps', 'nft 1.0.6 writes memory there');
  t.equal(fate(json(', "flags": ["dormant", "owner"]')), 'passes');
  for (const flag of ['owner', 'dormant']) t.equal(fate(json(`, "flags": "${flag}"`)), 'perhaps', 'that memory may hold any word');
  t.same(['1.1.0', '1.1.3', '2.0'].map((version) => fate(json(', "flags": "owner"', version))), ['blocked', 'blocked', 'blocked']);
  t.equal(fate(json(', "flags": "dormant"', '1.1.1')), 'passes');
  t.equal(fate(json(', "flags": ["owner", "persist"]')), 'blocked');
  t.end();
});

t.test('tables of one family say nothing of the other, inet says of both', (t) => {
  const of = (family: string): NftRuleset => parseNftText(`table ${family} t {\n\tchain c {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}`);
  t.equal(fate(of('ip')), 'blocked');
  t.equal(fate(of('ip6')), 'passes');
  t.equal(fate(of('ip6'), toImds6), 'blocked');
  t.equal(fate(of('inet'), toImds6), 'blocked');
  t.equal(fate(of('bridge')), 'passes');
  t.end();
});

t.test('answers of several commands are one ruleset, and a rule listed twice is one rule', (t) => {
  const chain = '{"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}';
  const rule = '{"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 2, "expr": [{"drop": null}]}}';
  const whole = `{"nftables": [{"metainfo": {"version": "1.0.6"}}, ${chain}]}\n{"nftables": [{"table": {"family": "ip", "name": "t"}}, ${chain}, ${rule}]}\n`;
  const ruleset = parseNftJson(`${whole}${whole}nonsense`);
  t.equal(ruleset.tables.length, 1);
  t.equal(ruleset.tables[0]!.chains.get('c')!.rules.length, 1);
  t.equal(fate(ruleset), 'blocked');
  t.match(ruleset.unread, [{ line: 5, text: 'nonsense' }]);
  t.same(parseNftJson(JSON.stringify(JSON.parse(whole.split('\n')[1]!), undefined, 2)).tables[0]!.chains.get('c')!.rules[0]!.text, 'drop', 'laid out over lines');
  t.end();
});

t.test('what carries packets past the hooks is told', (t) => {
  const ruleset = parseNftText(`table inet calico {
	flowtable ft {
		hook ingress priority filter
		devices = { ens5, eni1 }
	}
}
table netdev early {
	chain reads {
		type filter hook ingress device "eth0" priority -500; policy accept;
		ip daddr 169.254.169.254 drop
		jump more
	}

	chain sends {
		type filter hook ingress devices = { eth0, eth1 } priority -500; policy accept;
		jump away
	}

	chain more {
		tcp dport 80 limit rate 5/second accept
	}

	chain away {
		ip6 daddr fd00:ec2::254 fwd to "eth1"
	}
}
`);
  t.same(ruleset.unread, []);
  t.same(offPath(ruleset).map(({ what, place, redirects }) => ({ what, place, redirects })), [
    { what: 'flowtable', place: 'flowtable inet calico ft (devices ens5, eni1)', redirects: true },
    { what: 'netdev-chain', place: 'chain netdev early reads hook ingress (device eth0)', redirects: false },
    { what: 'netdev-chain', place: 'chain netdev early sends hook ingress (devices eth0, eth1)', redirects: true },
  ]);
  t.end();
});

const corpus = new URL('../../../shared/corpus/real/', import.meta.url);
const without = existsSync(corpus) ? false : `THE REAL RULESETS ARE NOT HERE (${corpus.pathname}): nothing of them is checked`;

t.test('Calico 2025 in nftables mode', { skip: without }, (t) => {
  const ruleset = parseNftText(readFileSync(new URL('07-calico-2025-nft-table-ip-calico.txt', corpus), 'utf8'));
  t.same(ruleset.unread, []);
  const [table] = ruleset.tables;
  t.equal(table!.sets.get('filter-cali-from-wl-dispatch')!.dataType, 'verdict');
  t.same(table!.sets.get('cali40this-host')!.elements, ['10.128.0.212', '127.0.0.0', '127.0.0.1', '192.168.122.1']);
  const bases = nftBaseChains(ruleset, 'ipv4', () => true);
  t.same(bases.map(({ name, hook, priority }) => `${name} ${hook} ${priority}`), [
    'mangle-PREROUTING prerouting -150', 'mangle-FORWARD forward -150', 'mangle-POSTROUTING postrouting -150', 'raw-OUTPUT output -300',
    'filter-FORWARD forward 0', 'nat-PREROUTING prerouting -100', 'nat-POSTROUTING postrouting 110', 'mangle-INPUT input -150',
    'mangle-OUTPUT output -150', 'raw-PREROUTING prerouting -300', 'filter-INPUT input 0', 'filter-OUTPUT output 0', 'nat-INPUT input -100', 'nat-OUTPUT output 110',
  ]);
  const unread = [...table!.chains.values()].flatMap((chain) => chain.rules).filter((rule) => JSON.stringify(rule.expressions).includes('unread'));
  t.same(unread, [], 'every rule is read');
  const through = (packet: PacketClass): number =>
    walkBase(bases.find(({ name }) => name === 'filter-FORWARD')!, [packet], { dropped: () => {}, redirected: () => {} }, new Effort()).passed.length;
  t.equal(through({ ...toImds, iif: nameSet('cali123') }), 0, 'a pod that no map knows is dropped');
  t.equal(through(toImds), 1, 'what is no pod of Calico passes');
  t.end();
});

t.test('Docker in nftables mode', { skip: without }, (t) => {
  const ruleset = parseNftText(readFileSync(new URL('24-moby-bridge-nft-ip-golden.txt', corpus), 'utf8'));
  t.same(ruleset.unread, []);
  const bases = nftBaseChains(ruleset, 'ipv4', () => true);
  const base = bases.find(({ name }) => name === 'filter-FORWARD')!;
  const through = (packet: PacketClass): number => walkBase(base, [packet], { dropped: () => {}, redirected: () => {} }, new Effort()).passed.length;
  t.equal(through({ ...toImds, oif: nameSet('br-dummy') }), 0, 'an unpublished port');
  t.equal(through({ ...toImds, iif: nameSet('br-dummy') }), 1, 'outgoing');
  t.end();
});
