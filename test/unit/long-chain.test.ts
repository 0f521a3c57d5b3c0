import { type BaseChain, type PacketClass, anyPacket, baseChainsOf, interval, judge, parseSave, walkBase, Effort, nameSet } from 'node-iptables';
import t from 'tap';
import { randomOf } from '../fuzz/random.ts';

/**
 * A chain that is long remembers which rules may concern a destination, a source, a port. Here the same rules stand in
 * a long chain and, cut in pieces that are too short for that, in many: whoever passes the one passes the other.
 */
const seed = Number(process.env['SEED'] ?? 20261122);
const { int: below, pick } = randomOf(seed);

const rule = (): string => {
  const words = [
    ...(below(3) === 0 ? [`-s 10.0.0.${below(6)}/32`] : []),
    ...(below(3) === 0 ? [`-d 10.0.1.${below(6)}/32`] : []),
    ...(below(4) === 0 ? ['-i', pick(['eni+', 'eni1', 'eth0'])] : []),
    ...(below(2) === 0 ? ['-p tcp -m tcp', pick(['--dport 80', '--dport 443', '--sport 80', '--dport 1:100', '--sport 1024:65535'])] : []),
    ...(below(4) === 0 ? ['-m mark --mark', `0x${below(2)}/0x1`] : []),
    ...(below(4) === 0 ? ['-m conntrack --ctstate', pick(['NEW', 'ESTABLISHED', 'INVALID', 'NEW,RELATED'])] : []),
  ];
  return `${words.join(' ')} -j ${pick(['ACCEPT', 'DROP', 'DROP', 'RETURN', 'MARK --set-xmark 0x1/0x1', 'MARK --set-xmark 0x0/0x1'])}`.trim();
};

t.test(`what a long chain skips is only what takes no packet (seed ${seed})`, async (t) => {
  for (let round = 0; round < 60; round++) {
    const rules = Array.from({ length: 70 + below(60) }, rule);
    const long = baseOf(['*filter', ':FORWARD ACCEPT [0:0]', ...rules.map((one) => `-A FORWARD ${one}`), 'COMMIT', ''].join('\n'));
    const pieces = Array.from({ length: Math.ceil(rules.length / 20) }, (_, at) => rules.slice(20 * at, 20 * at + 20));
    const short = baseOf(
      [
        '*filter', ':FORWARD ACCEPT [0:0]',
        ...pieces.map((_, at) => `:part${at} - [0:0]`),
        // By goto, so that a return in a piece ends the whole, as it does in the long chain.
        '-A FORWARD -g part0',
        ...pieces.flatMap((piece, at) => [...piece.map((one) => `-A part${at} ${one}`), ...(at + 1 < pieces.length ? [`-A part${at} -g part${at + 1}`] : [])]),
        'COMMIT', '',
      ].join('\n'),
    );
    const together = { dst: one(0x0a000100 + below(6)) };
    for (const packets of [[packet(), packet(), packet()], [packet()], [packet(), packet(), packet()].map((other) => ({ ...other, ...together }))]) {
      t.same(ends(long, packets), ends(short, packets), rules.join('\n'));
    }
  }
});

function packet(): PacketClass {
  return {
  ...anyPacket('ipv4'),
  tracked: true,
  iif: nameSet(pick(['eni1', 'eni2', 'eth0'])),
  src: interval(0x0a000000 + below(6), 0x0a000000 + 6),
  dst: below(2) === 0 ? one(0x0a000100 + below(6)) : interval(0x0a000100, 0x0a000106),
  proto: one(6),
  sport: pick([one(80), interval(1024, 65536)]),
  dport: pick([one(80), one(443), interval(0, 65536)]),
  ctstate: pick([1, 2, 8, 15]),
  };
}
function one(value: number): PacketClass['src'] {
  return interval(value, value + 1);
}
function baseOf(text: string): BaseChain {
  return baseChainsOf(parseSave(text, { family: 'ipv4', backend: 'nft' }))[0]!;
}

/** What passes, as a set of samples: classes may be cut differently. */
function ends(base: BaseChain, packets: readonly PacketClass[]): string[] {
  const { passed } = walkBase(base, packets, { dropped: () => {}, redirected: () => {} }, new Effort());
  const samples = [];
  for (const src of [0, 1, 2, 3, 4, 5]) for (const dst of [0, 1, 2, 3, 4, 5]) for (const sport of [80, 2000]) for (const dport of [50, 80, 443, 9000]) for (const state of [1, 2, 8]) {
    const has = passed.some((c) => holds(c.src, 0x0a000000 + src) && holds(c.dst, 0x0a000100 + dst) && holds(c.sport, sport) && holds(c.dport, dport) && (c.ctstate & state) !== 0);
    if (has) samples.push(`${src} ${dst} ${sport} ${dport} ${state}`);
  }
  return samples;
}
function holds(set: PacketClass['src'], value: number): boolean {
  return set.some((from, at) => at % 2 === 0 && from <= value && value < set[at + 1]!);
}

t.test('and a verdict of a long chain names the rule that drops, wherever it stands', async (t) => {
  const filler = Array.from({ length: 200 }, (_, n) => `-A FORWARD -s 10.9.0.${n}/32 -p tcp -m tcp --dport ${n + 1000} -j ACCEPT`);
  const text = ['*filter', ':FORWARD ACCEPT [0:0]', ...filler, '-A FORWARD -d 10.0.1.1/32 -j DROP', 'COMMIT', ''].join('\n');
  const request = { ...anyPacket('ipv4'), dst: one(0x0a000101), proto: one(6), dport: one(80) };
  const judgement = judge([baseOf(text)], { request, likely: request, picks: { interfaces: ['eth0'], sourcePort: 40000 } });
  t.match(judgement, { answer: 'blocked', proof: [{ number: 201 }] });
});
