import t from 'tap';
import { CT_STATE, anyPacket, baseChainsOf, nftBaseChains, parseNftText, parseSave, pathsOf, walkPath, Effort } from '../../agent/node-iptables/src/index.ts';
import { IMDS_DROP, answerOf, ask, dump } from './ask.ts';

const DROP = '-d 169.254.169.254/32 -j DROP';

t.test('hooks in the order in which the kernel calls them', async (t) => {
  const bases = baseChainsOf(parseSave(dump({ security: '', filter: '', nat: '', mangle: '', raw: '' }), { family: 'ipv4', backend: 'legacy' }));
  const order = (way: 'forwarded' | 'delivered'): string[] => pathsOf(bases, way).paths[0]!.map(({ place, name }) => `${place.table} ${name}`);
  t.same(order('forwarded'), ['raw PREROUTING', 'mangle PREROUTING', 'nat PREROUTING', 'mangle FORWARD', 'filter FORWARD', 'security FORWARD', 'mangle POSTROUTING', 'nat POSTROUTING']);
  t.same(order('delivered'), ['raw PREROUTING', 'mangle PREROUTING', 'nat PREROUTING', 'mangle INPUT', 'filter INPUT', 'security INPUT', 'nat INPUT']);
});

t.test('a drop counts wherever a forwarded packet comes by, and nowhere else', async (t) => {
  const places: readonly (readonly [string, string, string])[] = [
    ['raw', 'PREROUTING', 'blocked'], ['mangle', 'PREROUTING', 'blocked'], ['mangle', 'FORWARD', 'blocked'], ['filter', 'FORWARD', 'blocked'],
    ['security', 'FORWARD', 'blocked'], ['mangle', 'POSTROUTING', 'blocked'],
    ['raw', 'OUTPUT', 'open'], ['mangle', 'INPUT', 'open'], ['mangle', 'OUTPUT', 'open'], ['filter', 'INPUT', 'open'], ['filter', 'OUTPUT', 'open'], ['security', 'INPUT', 'open'],
    // A name of the kernel in a table where the kernel has no such chain.
    ['raw', 'FORWARD', 'open'], ['nat', 'FORWARD', 'open'],
  ];
  for (const [table, chain, answer] of places) t.equal(answerOf({ [table]: `-A ${chain} ${DROP}` }), answer, `${table} ${chain}`);
  t.equal(answerOf({ raw: '-P OUTPUT DROP', filter: '-P INPUT DROP\n-P OUTPUT DROP' }), 'open', 'policies of chains that forwarded packets do not meet');
  t.equal(answerOf({ security: '-P FORWARD DROP' }), 'blocked');
  t.equal(answerOf({ filter: '-A FORWARD -j ACCEPT', mangle: `-A POSTROUTING ${DROP}` }), 'blocked', 'an accept ends its own chain only');
});

t.test('what each hook knows', async (t) => {
  t.equal(answerOf({ mangle: `-A PREROUTING -o eth0 ${DROP}` }), 'open', 'no out-interface before routing');
  t.equal(answerOf({ mangle: `-A PREROUTING ! -o eth0 ${DROP}` }), 'blocked', 'and its absence is not eth0');
  t.equal(answerOf({ mangle: `-A POSTROUTING ! -o eni+ ${DROP}` }), 'blocked', 'IMDS is not behind a pod interface');
  t.equal(answerOf({ mangle: `-A POSTROUTING -o vlan+ ${DROP}` }), 'open', 'and not always behind a branch interface');
});

t.test('conntrack comes between raw and mangle', async (t) => {
  const raw = (match: string): string => answerOf({ raw: `-A PREROUTING -m conntrack ${match} ${DROP}` });
  t.equal(raw('--ctstate NEW'), 'open', 'in raw nothing is NEW yet');
  t.equal(raw('--ctstate INVALID'), 'blocked', 'everything is INVALID there');
  t.equal(raw('! --ctstate NEW'), 'blocked');
  t.equal(raw('--ctdir ORIGINAL'), 'open', 'and has no direction');
  t.equal(raw('! --ctdir ORIGINAL'), 'open', 'not even another one');
  t.equal(answerOf({ mangle: `-A PREROUTING -m conntrack --ctstate NEW ${DROP}` }), 'blocked');
  t.equal(answerOf({ mangle: `-A PREROUTING -m conntrack --ctdir ORIGINAL ${DROP}` }), 'blocked');
  // Both seen to reach in a real kernel (6.18, both backends) when this said blocked.
  t.equal(answerOf({ raw: `-A PREROUTING -m conntrack --ctstate INVALID --ctdir REPLY -j ACCEPT\n-A PREROUTING ${DROP}` }), 'open', 'without a connection the state decides alone');
  t.equal(answerOf({ filter: '-A FORWARD -d 169.254.169.254/32 -m conntrack --ctstatus NONE -j DROP' }), 'open', '--ctstatus NONE matches nothing');
  t.equal(answerOf({ filter: '-A FORWARD -d 169.254.169.254/32 -m conntrack ! --ctstatus NONE -j DROP' }), 'blocked', 'and negated every connection');
  t.equal(answerOf({ filter: '-A FORWARD -m conntrack --ctstate INVALID --ctdir REPLY -j ACCEPT\n' + IMDS_DROP }), 'blocked', 'a packet with a connection is asked for both');
  t.equal(answerOf({ filter: '-A FORWARD -m conntrack --ctstate NEW --ctdir REPLY -j ACCEPT\n' + IMDS_DROP }), 'blocked');
  t.equal(answerOf({ filter: '-A FORWARD -m conntrack --ctstate NEW --ctdir ORIGINAL -j ACCEPT\n' + IMDS_DROP }), 'unknown: later', 'a packet that is both is accepted; what follows it is not NEW');
});

t.test('untracked packets', async (t) => {
  const untracked = { raw: '-A PREROUTING -i eni+ -j CT --notrack' };
  t.equal(answerOf({ ...untracked, filter: '-A FORWARD -m conntrack --ctstate NEW -j DROP' }).startsWith('unknown'), true, 'are not NEW, and what becomes of half a conversation is not followed');
  t.equal(answerOf({ ...untracked, filter: `-A FORWARD -m conntrack --ctstate UNTRACKED ${DROP}` }), 'blocked');
  t.equal(answerOf({ ...untracked, filter: IMDS_DROP }), 'blocked');
  t.equal(answerOf({ raw: '-A PREROUTING -i eni+ -j NOTRACK', filter: `-A FORWARD -m conntrack --ctstate UNTRACKED ${DROP}` }), 'blocked');
  // Seen in a real kernel: after `CT --zone` the packet is NEW in raw, and NOTRACK does nothing.
  t.equal(answerOf({ raw: '-A PREROUTING -j CT --zone 1\n-A PREROUTING -j CT --notrack', filter: `-A FORWARD -m conntrack --ctstate UNTRACKED ${DROP}` }), 'unknown: doubt');
  t.equal(answerOf({ raw: `-A PREROUTING -j CT --zone 1\n-A PREROUTING -m conntrack --ctstate NEW -j ACCEPT\n-A PREROUTING ${DROP}` }), 'unknown: doubt');
});

t.test('marks of the connection', async (t) => {
  const restore = (where: string): string => answerOf({ mangle: `-A ${where} -j CONNMARK --set-xmark 0x80/0x80\n-A ${where} -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff`, filter: `-A FORWARD -m mark --mark 0x80/0x80 -j ACCEPT\n${IMDS_DROP}` });
  t.equal(restore('PREROUTING'), 'open', 'a mark that went by way of the connection');
  t.equal(answerOf({ raw: '-A PREROUTING -j CONNMARK --set-xmark 0x80/0x80', mangle: '-A PREROUTING -j CONNMARK --restore-mark', filter: `-A FORWARD -m mark --mark 0x80/0x80 -j ACCEPT\n${IMDS_DROP}` }), 'blocked', 'in raw there is no connection to mark');
  t.equal(answerOf({ filter: `-A FORWARD -m connmark ! --mark 0x80/0x80 -j ACCEPT\n${IMDS_DROP}` }), 'open');
  t.equal(answerOf({ raw: `-A PREROUTING -m connmark ! --mark 0x80/0x80 -j ACCEPT\n-A PREROUTING ${DROP}` }), 'blocked', 'no connection: not even the negated question matches');
});

t.test('translated destinations are somebody else\'s answer, and not a block', async (t) => {
  const kube2iam = '-A PREROUTING -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8181';
  t.match(ask({ nat: kube2iam }), { answer: 'unknown', because: 'redirected' });
  t.match(ask({ nat: kube2iam, filter: IMDS_DROP }), { answer: 'unknown', because: 'redirected' }, 'the drop never sees the packet');
  t.equal(answerOf({ nat: kube2iam, mangle: `-A PREROUTING ${DROP}` }), 'blocked', 'unless it stands before');
  t.equal(answerOf({ nat: kube2iam.replace('80', '443'), filter: IMDS_DROP }), 'blocked', 'another port');
  t.equal(answerOf({ nat: '-A PREROUTING -j REDIRECT --to-ports 8181' }), 'unknown: redirected');
  t.equal(answerOf({ nat: '-A POSTROUTING -j MASQUERADE' }), 'open', 'a translated source goes on');
  t.equal(answerOf({ nat: kube2iam }, { state: 'ESTABLISHED' }), 'open', 'nat is for the first packet of a connection');
});

t.test('two backends at equal priority', async (t) => {
  const marks = { mangle: '-A FORWARD -j MARK --set-xmark 0x1/0x1' };
  const drops = { mangle: `-A FORWARD -m mark --mark 0x1/0x1 ${DROP}` };
  t.equal(answerOf({ nft: marks, legacy: drops }), 'unknown: order', 'whether the mark comes first, no listing tells');
  t.equal(answerOf({ nft: drops, legacy: marks }), 'unknown: order');
  t.equal(answerOf({ nft: marks, legacy: { mangle: `-A FORWARD ${DROP}` } }), 'blocked', 'in either order');
  t.equal(answerOf({ nft: { mangle: '-A PREROUTING -j MARK --set-xmark 0x1/0x1' }, legacy: drops }), 'blocked', 'hooks have an order');
  t.equal(answerOf({ nft: { filter: '-A FORWARD -i eni+ -j ACCEPT' }, legacy: { filter: IMDS_DROP } }), 'blocked', 'measured: one accepts, the other drops');
  t.equal(answerOf({ legacy: { filter: '-A FORWARD -i eni+ -j ACCEPT' }, nft: { filter: IMDS_DROP } }), 'blocked');
  t.equal(answerOf({ nft: {}, legacy: {} }), 'open');
});

t.test('a native table has the priority it says', async (t) => {
  const native = parseNftText('table inet own {\n\tchain c {\n\t\ttype filter hook forward priority -200; policy accept;\n\t\tip daddr 169.254.169.254 drop\n\t}\n}\n');
  const bases = [...baseChainsOf(parseSave(dump({ mangle: '', filter: '-A FORWARD -j ACCEPT' }), { family: 'ipv4', backend: 'nft' })), ...nftBaseChains(native, 'ipv4', () => true)];
  const { paths, complete } = pathsOf(bases, 'forwarded');
  t.equal(complete, true);
  t.same(paths.map((path) => path.filter(({ hook }) => hook === 'forward').map(({ place }) => place.table)), [['own', 'mangle', 'filter']]);
  const dropped: string[] = [];
  walkPath(paths[0]!, [{ ...anyPacket('ipv4'), ctstate: CT_STATE.NEW }], { dropped: (_, by) => dropped.push(by.text), redirected: () => {} }, new Effort());
  t.same(dropped, ['ip daddr 169.254.169.254 drop']);
});
