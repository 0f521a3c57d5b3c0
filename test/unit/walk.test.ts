import t from 'tap';
import { IMDS_DROP, type Tables, answerOf, ask } from './ask.ts';

/** Rules of filter FORWARD and of the chains it goes to, and whether a pod's packet passes them. */
const table: readonly (readonly [what: string, rules: string, answer: string])[] = [
  ['nothing at all', '', 'open'],
  ['the documented drop', IMDS_DROP, 'blocked'],
  ['the drop for other interfaces', IMDS_DROP.replace('eni+', 'veth+'), 'open'],
  ['the drop for one pod only', IMDS_DROP.replace('eni+', 'eni0'), 'open'],
  ['the drop for everything else', IMDS_DROP.replace('-i eni+', '! -i eni+'), 'open'],
  ['the drop for everything but the node\'s own interface', IMDS_DROP.replace('-i eni+', '! -i eth0'), 'blocked'],
  ['an interface of 15 bytes, one of the pattern', `${IMDS_DROP.replace('eni+', 'eni0123456789ab')}`, 'open'],
  ['the plus alone is every interface', IMDS_DROP.replace('eni+', '+'), 'blocked'],
  ['an accept above', `-A FORWARD -i eni+ -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['an accept above, for the port of IMDS by -p tcp --dport', `-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['an accept above, for another port', `-A FORWARD -p tcp -m tcp --dport 443 -j ACCEPT\n${IMDS_DROP}`, 'blocked'],
  ['an accept above, for udp', `-A FORWARD -p udp -j ACCEPT\n${IMDS_DROP}`, 'blocked'],
  ['an accept above, by the number of the protocol', `-A FORWARD -p 6 -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['an accept above, -p all', `-A FORWARD -p all -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['an accept above, ! -p udp', `-A FORWARD ! -p udp -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['an accept above, multiport --ports', `-A FORWARD -p tcp -m multiport --ports 22,80 -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['an accept above, multiport ! --ports', `-A FORWARD -p tcp -m multiport ! --ports 22,80 -j ACCEPT\n${IMDS_DROP}`, 'blocked'],
  ['a drop of first packets only is enough for new connections', '-A FORWARD -d 169.254.169.254/32 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP', 'blocked'],
  ['a drop of all but first packets', '-A FORWARD -d 169.254.169.254/32 -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP', 'unknown: later'],
  ['a jump to a chain that drops', '-A FORWARD -j X\n-A X -d 169.254.169.254/32 -j DROP', 'blocked'],
  ['a chain that returns before its drop', `-A FORWARD -j X\n-A X -j RETURN\n-A X -j DROP`, 'open'],
  ['a return in the base chain goes to the policy', `-P FORWARD DROP\n-A FORWARD -j RETURN\n-A FORWARD -j ACCEPT`, 'blocked'],
  ['a jump comes back to its caller', `-A FORWARD -j X\n${IMDS_DROP}\n-A X -j RETURN`, 'blocked'],
  ['a goto of the base chain does not come back: the policy decides', `-A FORWARD -g X\n${IMDS_DROP}\n-A X -p udp -j DROP`, 'open'],
  ['a goto of the base chain, and the policy drops', `-P FORWARD DROP\n-A FORWARD -g X\n-A FORWARD -j ACCEPT\n-A X -p udp -j ACCEPT`, 'blocked'],
  ['goto returns to the caller\'s caller: past the drop of the caller', `-A FORWARD -j A\n-A A -g B\n-A A -j DROP\n-A B -j RETURN`, 'open'],
  ['goto returns to the caller\'s caller: to the drop there', `-A FORWARD -j A\n${IMDS_DROP}\n-A A -g B\n-A A -j ACCEPT\n-A B -p udp -j ACCEPT`, 'blocked'],
  ['the policy drops answers, and a rule above lets pods out', '-P FORWARD DROP\n-A FORWARD -i eni+ -j ACCEPT', 'unknown: later'],
  ['the policy drops, and rules above let pods out and answers in', '-P FORWARD DROP\n-A FORWARD -i eni+ -j ACCEPT\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', 'open'],
  ['the policy drops requests, so answers need not be asked about', '-P FORWARD DROP\n-A FORWARD -o eni+ -j ACCEPT', 'blocked'],
  ['a log and a mark above do no harm', `-A FORWARD -j LOG --log-prefix "a b"\n-A FORWARD -j MARK --set-xmark 0x1/0x1\n${IMDS_DROP}`, 'blocked'],
  ['a reject is a drop', IMDS_DROP.replace('DROP', 'REJECT --reject-with icmp-port-unreachable'), 'blocked'],
  ['a chain that was not given may do anything', `-A FORWARD -j GONE\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a chain that leads to itself, as no kernel has it', `-A FORWARD -j A\n${IMDS_DROP}\n-A A -j A\n-A A -j A`, 'unknown: doubt'],
  ['thirty chains of two jumps each, a billion ways', `-A FORWARD -j A0\n${IMDS_DROP}\n${Array.from({ length: 30 }, (_, at) => `-A A${at} -j A${at + 1}\n-A A${at} -j A${at + 1}\n`).join('')}-A A30 -p udp -j DROP`, 'unknown: doubt'],
  ['a program that decides', `-A FORWARD -j NFQUEUE --queue-num 0\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a rate limit above', `-A FORWARD -m limit --limit 1/sec -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a drop for some rate only', '-A FORWARD -d 169.254.169.254/32 -m limit --limit 1/sec -j DROP', 'unknown: doubt'],
  ['an ipset above', `-A FORWARD -m set --match-set pods src -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['an ipset below changes nothing', `${IMDS_DROP}\n-A FORWARD -m set ! --match-set pods src,dst -j ACCEPT`, 'blocked'],
  ['a target nobody knows', `-A FORWARD -j NEWTHING --with 1\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a match nobody knows, above', `-A FORWARD -m newthing --with 1 -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a match nobody knows, below', `${IMDS_DROP}\n-A FORWARD -m newthing --with 1 -j ACCEPT`, 'blocked'],
  ['a match nobody knows, of other packets', `-A FORWARD -p udp -m newthing --with 1 -j ACCEPT\n${IMDS_DROP}`, 'blocked'],
  ['a chance that is negated is a chance', `-A FORWARD -m statistic --mode random ! --probability 0.5 -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a negation of what asks nothing', `-A FORWARD -m comment ! --comment x -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a match without its options', '-A FORWARD -d 169.254.169.254/32 -m limit -j DROP', 'unknown: doubt'],
  ['a reverse path is a matter of routes', '-A FORWARD -d 169.254.169.254/32 -m rpfilter -j DROP', 'unknown: doubt'],
  ['a counter that may have a quota', '-A FORWARD -d 169.254.169.254/32 -m nfacct --nfacct-name q -j DROP', 'unknown: doubt'],
  ['a port in octal', `-A FORWARD -p tcp -m tcp --dport 0120 -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['words that may hold a target', `-A FORWARD --jump=ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a comment that ends where its quotes end', `-A FORWARD -m comment --comment "a"-j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['a comment with the words of a rule in it', `-A FORWARD -m comment --comment "x -j ACCEPT" -p udp -j ACCEPT\n${IMDS_DROP}`, 'blocked'],
  ['a negation where none can be', `-A FORWARD ! -m tcp -p tcp -j ACCEPT\n${IMDS_DROP}`, 'unknown: doubt'],
  ['a chain that has the name of a target', `-A FORWARD -j ULOG\n${IMDS_DROP}\n-A ULOG -j ACCEPT`, 'unknown: doubt'],
  ['a chain that is called DROP, as nft can make it', `${IMDS_DROP}\n-A DROP -j ACCEPT`, 'unknown: doubt'],
  ['words that every object of JavaScript has', `-A FORWARD -p constructor --dport 80 -m toString -j __proto__ --valueOf\n${IMDS_DROP}`, 'unknown: doubt'],
  ['an owner: forwarded packets have none', `-A FORWARD -m owner --uid-owner 0 -j ACCEPT\n${IMDS_DROP}`, 'blocked'],
  ['no owner: forwarded packets have none', `-A FORWARD -m owner ! --uid-owner 0 -j ACCEPT\n${IMDS_DROP}`, 'open'],
  ['not to an address of the node', `-A FORWARD -m addrtype ! --dst-type LOCAL -j ACCEPT\n${IMDS_DROP}`, 'open'],
];

t.test('a pod asks IMDS through filter FORWARD', async (t) => {
  for (const [what, rules, answer] of table) t.equal(answerOf({ filter: rules }), answer, what);
});

t.test('marks, bit by bit', async (t) => {
  const calico = (mark: string): Tables => ({
    mangle: `-A PREROUTING -i eni+ -j MARK --set-xmark ${mark}`,
    filter: `-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n${IMDS_DROP}`,
  });
  t.equal(answerOf(calico('0x10000/0x10000')), 'open', 'a packet that Calico marked is accepted above our rule');
  t.equal(answerOf(calico('0x20000/0x20000')), 'blocked', 'another bit is another mark');
  t.equal(answerOf(calico('0x0/0xffffffff')), 'blocked');
  t.equal(answerOf({ filter: calico('').filter! }, { mark: 0x10000 }), 'open', 'BPF set the mark before any rule');
  t.equal(answerOf({ filter: calico('').filter! }, { mark: 'any' }), 'unknown: doubt'.replace('doubt', 'unlikely'), 'who knows what BPF set');
  t.equal(answerOf({ filter: `-A FORWARD -m mark --mark 0x3/0x1 -j ACCEPT\n${IMDS_DROP}` }, { mark: 3 }), 'blocked', 'a value outside its mask matches nothing');
  t.equal(answerOf({ filter: `-A FORWARD -m mark ! --mark 0x3/0x1 -j ACCEPT\n${IMDS_DROP}` }, { mark: 3 }), 'open', 'and negated everything');
  const set = (how: string, from = 0): string => answerOf({ mangle: `-A FORWARD -j MARK ${how}`, filter: `-A FORWARD -m mark --mark 0x6 -j ACCEPT\n${IMDS_DROP}` }, { mark: from });
  t.same([set('--set-mark 6'), set('--or-mark 0x2', 4), set('--and-mark 0x6', 7), set('--xor-mark 0x3', 5), set('--set-xmark 0x2/0x0', 4), set('--set-mark 0x6/0x6', 0), set('--set-mark 0x6/0xf', 9), set('--set-mark 7')], [...Array<string>(7).fill('open'), 'blocked'], 'the ways to write a mark');
});

t.test('a line that cannot be read may be any rule of its table, at any place', async (t) => {
  const judgement = ask(`*filter\n:FORWARD ACCEPT [0:0]\n${IMDS_DROP}\nwhat is this\nCOMMIT\n`);
  t.match(judgement, { answer: 'unknown', because: 'doubt', doubts: [{ kind: 'unread', why: /line 4: what is this/ }] });
  t.equal(answerOf(`*nat\n:PREROUTING ACCEPT [0:0]\nwhat is this\nCOMMIT\n*filter\n:FORWARD ACCEPT [0:0]\n${IMDS_DROP}\nCOMMIT\n`), 'blocked', 'but a rule of nat undoes no drop of filter');
  t.equal(answerOf(`*mangle\n:FORWARD ACCEPT [0:0]\nwhat is this\nCOMMIT\n*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m mark --mark 0x1 -j ACCEPT\n${IMDS_DROP}\nCOMMIT\n`), 'unknown: doubt', 'though it may set the mark that an accept asks for');
  t.equal(answerOf(`*filter\n:FORWARD DROP [0:0]\nCOMMIT\n*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n`), 'unknown: doubt', 'a table that is there twice');
  t.equal(answerOf(`*filter\n:FORWARD ACCEPT [0:0]\n:X - [0:0]\n-A FORWARD -j X\n-A X -j DROP\n:X - [0:0]\nCOMMIT\n`), 'unknown: doubt', 'a chain that is declared twice: restore would have emptied it');
  t.equal(answerOf(`# Table \`filter' is incompatible, use 'nft' tool.\n*mangle\n:FORWARD ACCEPT [0:0]\nCOMMIT\n`), 'unknown: doubt', 'rules that iptables-nft cannot show are not no rules');
});

t.test('policies that were not given', async (t) => {
  t.equal(answerOf(`-A FORWARD -p udp -j DROP\n`), 'unknown: doubt');
  t.equal(answerOf(`${IMDS_DROP}\n`), 'blocked', 'are not asked about when nothing gets there');
  t.equal(answerOf(`-P FORWARD ACCEPT\n-A FORWARD -p udp -j DROP\n`), 'open');
  t.equal(answerOf(`-N X\n-A X -j DROP\n`), 'open', 'no rules of FORWARD at all: nothing stops a packet');
});
