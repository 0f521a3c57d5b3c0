import t from 'tap';
import { CT_DIRECTION, CT_STATE, type PacketClass, TCP, UDP, anyPacket, doubtsOf, hasConnection, hull, includesClass, intersectClass, mergeExactly, seenState } from '../../agent/node-iptables/src/packet/packet-class.ts';
import { describePacket, pickOne } from '../../agent/node-iptables/src/packet/pick.ts';
import { type Test, all, any, not, ofConnection, split, surelyNot } from '../../agent/node-iptables/src/packet/test.ts';
import { type Bits, knownBits, matchBits } from '../../agent/node-iptables/src/sets/bits.ts';
import { type IntervalSet, includes, interval, union } from '../../agent/node-iptables/src/sets/interval-set.ts';
import { ANY_NAME, hasName, namePattern, nameSet } from '../../agent/node-iptables/src/sets/name-set.ts';
import { type Random, randomOf } from '../fuzz/random.ts';

const seed = Number(process.env['SEED'] ?? 1);
t.comment(`SEED=${seed}`);

/** A packet as the kernel has it: one value in each field. */
interface Concrete {
  readonly iif: string;
  readonly src: number;
  readonly proto: number;
  readonly dport: number;
  readonly ctstate: number;
  readonly ctdir: number;
  readonly mark: number;
  readonly connmark: number;
  readonly tracked: boolean;
}
const STATES = Object.values(CT_STATE);
const NAMES = ['eni0', 'eni1', 'eth0'];

/** Every packet of a small world. */
function everyPacket(tracked: boolean): Concrete[] {
  const out: Concrete[] = [];
  for (const iif of NAMES) for (const src of [0, 1, 2]) for (const proto of [6, 17]) for (const dport of [80, 81])
    for (const ctstate of STATES) for (const ctdir of [1, 2]) for (const mark of [0, 1, 2, 3]) for (const connmark of [0, 1])
      out.push({ iif, src, proto, dport, ctstate, ctdir, mark, connmark, tracked });
  return out;
}

const isIn = (one: Concrete, set: PacketClass): boolean =>
  hasName(set.iif, one.iif) && includes(set.src, one.src) && includes(set.proto, one.proto) && includes(set.dport, one.dport) &&
  (one.ctstate & set.ctstate) !== 0 && (one.ctdir & set.ctdir) !== 0 && can(set.mark, one.mark) && can(set.connmark, one.connmark);
const can = (bits: Bits, value: number): boolean => ((bits.value ^ value) & bits.known) === 0;

/** What the kernel answers, for one packet; written without any of the code under test. */
function kernelSays(one: Concrete, test: Test): boolean {
  const connected = one.tracked && one.ctstate !== CT_STATE.INVALID && one.ctstate !== CT_STATE.UNTRACKED;
  switch (test.is) {
    case 'always': return true;
    case 'never': return false;
    case 'iif': return test.pattern.open ? one.iif.startsWith(test.pattern.prefix) : one.iif === test.pattern.prefix;
    case 'src': case 'proto': case 'dport': { const value = one[test.is]; return test.among.some((bound, at) => at % 2 === 0 && bound <= value && value < test.among[at + 1]!); }
    case 'ctstate': return ((connected || one.ctstate === CT_STATE.UNTRACKED ? one.ctstate : CT_STATE.INVALID) & test.among) !== 0;
    case 'ctdir': return connected && (one.ctdir & test.among) !== 0;
    case 'mark': return ((one.mark & test.mask) >>> 0) === test.value;
    case 'connmark': return connected && ((one.connmark & test.mask) >>> 0) === test.value;
    case 'not': return !kernelSays(one, test.test);
    case 'all': return test.tests.every((part) => kernelSays(one, part));
    case 'any': return test.tests.some((part) => kernelSays(one, part));
    default: throw new Error(test.is);
  }
}

function someTest(random: Random, depth: number): Test {
  const deep = depth > 0 ? random.int(14) : random.int(9);
  switch (deep) {
    case 0: return { is: 'iif', pattern: namePattern(random.pick(['eni+', 'eni0', 'e+', 'eth0', '+', 'veth+'])) };
    case 1: return { is: 'src', among: someNumbers(random, 0, 3) };
    case 2: return { is: 'proto', among: random.pick([TCP, UDP, interval(0, 256)]) };
    case 3: return { is: 'dport', among: someNumbers(random, 80, 2) };
    case 4: return { is: 'ctstate', among: random.int(32) };
    case 5: return { is: 'ctdir', among: random.pick([1, 2, 3]) };
    case 6: return { is: 'mark', value: random.int(4), mask: random.int(4) };
    case 7: return { is: 'connmark', value: random.int(2), mask: random.int(2) };
    case 8: return { is: random.pick(['always', 'never'] as const) };
    case 9: return not(someTest(random, depth - 1));
    case 10: return ofConnection(not(someTest(random, depth - 1)));
    case 11: return any([someTest(random, depth - 1), someTest(random, depth - 1), someTest(random, depth - 1)]);
    default: return all([someTest(random, depth - 1), someTest(random, depth - 1)]);
  }
}
function someNumbers(random: Random, from: number, count: number): IntervalSet {
  return union(Array.from({ length: 1 + random.int(2) }, () => { const at = from + random.int(count); return [at, at + 1 + random.int(2)] as const; }));
}
function someClass(random: Random, tracked: boolean): PacketClass {
  const bits = (limit: number): Bits => { const known = random.int(limit + 1); return { known: (known | ~limit) >>> 0, value: random.int(limit + 1) & known }; };
  return {
    ...anyPacket('ipv4'), tracked,
    iif: random.pick([ANY_NAME, nameSet('eni+'), nameSet('eni0'), { ...ANY_NAME, except: [namePattern('eni0')] }]),
    src: someNumbers(random, 0, 3), proto: random.pick([TCP, UDP, interval(6, 18)]), dport: someNumbers(random, 80, 2),
    // NOTRACK makes classes of their own of the packets it takes.
    ctstate: tracked ? 1 + random.int(31) : random.pick([CT_STATE.UNTRACKED, 1 + random.int(15)]), ctdir: 1 + random.int(3), mark: bits(3), connmark: bits(1),
  };
}

t.test('split cuts a class as the kernel would sort its packets, one by one', async (t) => {
  const random = randomOf(seed);
  for (let round = 0; round < 1500; round++) {
    const tracked = random.chance(0.7);
    const [packet, test] = [someClass(random, tracked), someTest(random, 3)];
    const [yes, no]: [PacketClass[], PacketClass[]] = [[], []];
    split(packet, test, undefined, yes, no);
    const inYes = (one: Concrete): boolean => yes.some((part) => isIn(one, part));
    const inNo = (one: Concrete): boolean => no.some((part) => isIn(one, part));
    for (const one of everyPacket(tracked)) {
      const says = isIn(one, packet) ? kernelSays(one, test) : undefined;
      if (says !== undefined && (inYes(one) !== says || inNo(one) === says)) return t.fail(`${JSON.stringify(one)} was sorted wrongly`, { seed, round, asked: test, packet, says });
      if (says === undefined && (inYes(one) || inNo(one))) return t.fail(`${JSON.stringify(one)} is no packet of the class`, { seed, round, asked: test, packet });
      if (says && surelyNot(packet, test)) return t.fail('a glance that is wrong', { seed, round, asked: test, packet });
    }
  }
  t.pass('1500 questions');
});

t.test('what cannot be decided goes both ways, and carries why', async (t) => {
  const [yes, no]: [PacketClass[], PacketClass[]] = [[], []];
  const packet = anyPacket('ipv4');
  split(packet, all([{ is: 'maybe', kind: 'state', why: 'a rate' }, { is: 'proto', among: TCP }]), 'the rule', yes, no);
  t.equal(yes.length, 1);
  t.same(yes.map((part) => doubtsOf(part)), [[{ kind: 'state', why: 'a rate', at: 'the rule' }]]);
  t.ok(no.length >= 1 && no.every((part) => part.doubts !== undefined), 'and so does what it may have left');
  t.ok(no.some((part) => includesClass(part, packet)), 'nothing is lost on the side of no');
});

t.test('joins and cuts of classes hold what they should', async (t) => {
  const random = randomOf(seed);
  for (let round = 0; round < 1500; round++) {
    const [a, b] = [someClass(random, true), someClass(random, true)];
    const [both, around, merged] = [intersectClass(a, b), hull(a, b), mergeExactly(a, b)];
    const includesAll = everyPacket(true).every((one) => !isIn(one, b) || isIn(one, a));
    if (includesClass(a, b) && !includesAll) return t.fail('includesClass', { seed, round, a, b });
    for (const one of everyPacket(true)) {
      const [inA, inB] = [isIn(one, a), isIn(one, b)];
      if ((both !== undefined && isIn(one, both)) !== (inA && inB)) return t.fail('intersectClass', { seed, round, a, b, one });
      if ((inA || inB) && !isIn(one, around)) return t.fail('hull forgets a packet', { seed, round, a, b, one });
      if (merged && isIn(one, merged) !== (inA || inB)) return t.fail('mergeExactly', { seed, round, a, b, one });
    }
  }
  t.pass('1500 pairs');
});

t.test('conntrack', async (t) => {
  const fresh = anyPacket('ipv4');
  t.equal(seenState(fresh), CT_STATE.INVALID, 'before conntrack every packet looks INVALID');
  t.equal(seenState({ ...fresh, ctstate: CT_STATE.UNTRACKED }), CT_STATE.UNTRACKED, 'but for an untracked one');
  t.equal(seenState({ ...fresh, tracked: true }), CT_STATE.NEW);
  t.notOk(hasConnection(fresh));
  t.notOk(hasConnection({ ...fresh, tracked: true, ctstate: CT_STATE.INVALID }));
});

t.test('one packet of a class, for people', async (t) => {
  const packet = pickOne({ ...anyPacket('ipv4'), iif: nameSet('eni+'), src: interval(10 * 2 ** 24, 11 * 2 ** 24), dport: interval(80, 81), mark: { known: 1, value: 1 }, ctstate: CT_STATE.NEW | CT_STATE.ESTABLISHED, ctdir: CT_DIRECTION.ORIGINAL }, { interfaces: ['eth0', 'eni5'], sourcePort: 40000 })!;
  const { in: from, source, sourcePort, destinationPort, state, mark } = describePacket(packet);
  t.same({ from, source, sourcePort, destinationPort, state, mark }, { from: 'eni5', source: '10.0.0.1', sourcePort: 40000, destinationPort: 80, state: 'NEW', mark: 'unknown' });
  t.equal(matchBits(packet.mark, 1, 1), 'all', 'a mark is not picked: the sender does not choose it');
  t.equal(pickOne({ ...anyPacket('ipv4'), iif: { prefix: 'abcdefghijklmno', open: true, except: [namePattern('abcdefghijklmno')] } }, { interfaces: [], sourcePort: 1 }), undefined, 'no name of 15 bytes is left');
  t.equal(matchBits(knownBits(5), 5, 0xf), 'all');
});
