import t from 'tap';
import { randomOf } from '../fuzz/random.ts';
import { IMDS_DROP, type Tables, answerOf, ask } from './ask.ts';

const seed = Number(process.env['SEED'] ?? 1);
t.comment(`SEED=${seed}`);

t.test('a conversation is more than its first packet', async (t) => {
  t.match(ask({ filter: '-A FORWARD -s 169.254.169.254/32 -o eni+ -j DROP' }), { answer: 'unknown', because: 'later', rules: [{ number: 1 }] }, 'the answer is dropped: whoever sends first packets still reaches IMDS');
  t.equal(answerOf({ filter: '-A FORWARD -m conntrack --ctstate ESTABLISHED -j DROP' }), 'unknown: later');
  t.equal(answerOf({ filter: '-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK -j DROP' }), 'unknown: later', 'the second packet of the handshake');
  t.equal(answerOf({ filter: '-A FORWARD -i eni+ -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j DROP' }), 'unknown: later', 'the data after the handshake');
  t.match(ask({ filter: '-A FORWARD -i eni+ -p tcp -j ACCEPT' }), { answer: 'open', packet: { in: /^eni/, destination: '169.254.169.254', destinationPort: 80, protocol: 6 }, trace: { doubtful: false, fate: { is: 'passed' } } });
});

t.test('connections that were open before the rules', async (t) => {
  const below: Tables = { filter: `-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n${IMDS_DROP}` };
  t.same([answerOf(below), answerOf(below, { state: 'ESTABLISHED' })], ['blocked', 'open'], 'are still served (measured)');
  t.same([answerOf({ filter: IMDS_DROP }), answerOf({ filter: IMDS_DROP }, { state: 'ESTABLISHED' })], ['blocked', 'blocked'], 'are cut (measured)');
  t.equal(answerOf({ ...below, mangle: '-A FORWARD -d 169.254.169.254/32 -j DROP' }, { state: 'ESTABLISHED' }), 'blocked', 'are cut by mangle FORWARD (measured)');
  t.equal(answerOf({ filter: '-A FORWARD -d 169.254.169.254/32 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP' }, { state: 'ESTABLISHED' }), 'open', 'have no SYN to drop');
});

t.test('only a packet that a pod may really send is a witness', async (t) => {
  t.equal(answerOf({ filter: `-A FORWARD -s 203.0.113.7/32 -j ACCEPT\n${IMDS_DROP}` }), 'unknown: unlikely', 'a source that no pod has');
  t.equal(answerOf({ filter: `-A FORWARD -s 10.1.2.3/32 -j ACCEPT\n${IMDS_DROP}` }), 'open');
  t.equal(answerOf({ filter: `-A FORWARD -p tcp -m tcp --sport 1:1023 -j ACCEPT\n${IMDS_DROP}` }), 'unknown: unlikely', 'a port that takes privileges');
});

t.test('IPv6 is asked in its own words', async (t) => {
  const six = { family: 'ipv6' } as const;
  for (const block of ['fd00:ec2::254/128', 'fd00:ec2::254', 'FD00:0ec2:0:0:0:0:0:254', 'fd00:ec2::/32', '::/0']) t.equal(answerOf({ filter: `-A FORWARD -d ${block} -i eni+ -j DROP` }, six), 'blocked', block);
  for (const block of ['fd00:ec2::253/128', 'fe80::/10']) t.equal(answerOf({ filter: `-A FORWARD -d ${block} -i eni+ -j DROP` }, six), 'open', block);
  t.equal(answerOf({ filter: '-A FORWARD -m iprange --dst-range fd00:ec2::-fd00:ec2::ffff -j DROP' }, six), 'blocked');
  t.equal(answerOf({ filter: `${IMDS_DROP}` }, six), 'unknown: doubt', 'an IPv4 address cannot be read there');
});

/** Rules of many kinds, all of which can be read. */
const KINDS: readonly string[] = [
  '-j ACCEPT', '-i eni+ -j ACCEPT', '-o eni+ -j ACCEPT', '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', '-m conntrack --ctstate NEW -j ACCEPT', '-m mark --mark 0x1/0x1 -j ACCEPT',
  '-d 169.254.169.254/32 -j DROP', '-d 169.254.169.254/32 -i eni+ -j DROP', '-p tcp -m tcp --dport 80 -j DROP', '-s 169.254.169.254/32 -j DROP', '-m mark ! --mark 0x1/0x1 -j DROP', '-m conntrack --ctstate INVALID -j DROP',
  '-j MARK --set-xmark 0x1/0x1', '-j MARK --set-xmark 0x0/0x1', '-j A', '-g A', '-j B', '-g B', '-j RETURN', '-p udp -j RETURN', '-m limit --limit 1/sec -j ACCEPT', '-j CONNMARK --save-mark', '-j CONNMARK --restore-mark',
];
const UNREAD: readonly string[] = ['-m newthing --with 1 -j ACCEPT', '-m newthing --with 1 -j DROP', '-m newthing -j MARK --set-xmark 0x1/0x1', '-j NEWTHING --with 1', '-j GONE', '-g GONE', '-d imds.internal -j DROP', '--strange', '-p tcp -m tcp --dport http -j DROP', '-j DROP --strange', '-m newthing -j RETURN'];

t.test('doubt never adds up to blocked: a rule that cannot be read, anywhere, proves nothing', async (t) => {
  const random = randomOf(seed);
  const seen = new Map<string, number>();
  for (let round = 0; round < 1500; round++) {
    const rulesOf = (chain: string): string[] => Array.from({ length: random.int(4) }, () => `-A ${chain} ${random.pick(KINDS.filter((kind) => chain === 'FORWARD' || chain === 'PREROUTING' || !/-[jg] [AB]$/.test(kind) || (chain === 'A' && kind.endsWith('B'))))}`);
    const tables: Record<string, string[]> = {
      mangle: ['-N A', '-N B', ...rulesOf('PREROUTING'), ...rulesOf('FORWARD'), ...rulesOf('A'), ...rulesOf('B')],
      filter: ['-N A', '-N B', `-P FORWARD ${random.pick(['ACCEPT', 'ACCEPT', 'DROP'])}`, ...rulesOf('FORWARD'), ...rulesOf('A'), ...rulesOf('B')],
    };
    const text = (): Tables => Object.fromEntries(Object.entries(tables).map(([name, lines]) => [name, lines.join('\n')]));
    const before = ask(text()).answer;
    const original = JSON.stringify(tables);
    const lines = tables[random.pick(['mangle', 'filter'])]!;
    const at = random.int(lines.length + 1);
    const chain = /^-A (\S+)/.exec(lines[Math.max(0, at - 1)] ?? '')?.[1] ?? random.pick(['FORWARD', 'A', 'B']);
    lines.splice(at, 0, `-A ${chain} ${random.pick(UNREAD)}`);
    const after = ask(text()).answer;
    seen.set(`${before} ${after}`, (seen.get(`${before} ${after}`) ?? 0) + 1);
    if (after === 'blocked' && before !== 'blocked') return t.fail(`${before} became blocked`, { seed, round, original, after: text() });
  }
  for (const pair of ['blocked blocked', 'blocked unknown', 'open open', 'open unknown', 'unknown unknown']) t.ok(seen.has(pair), `${pair}: ${seen.get(pair)} times`);
});
