import t from 'tap';
import { addressBlock, formatAddress, parseIPv4, parseIPv6, prefixLength } from '../../agent/node-iptables/src/sets/address.ts';
import { type Bits, hullBits, knownBits, leaveBits, matchBits, takeBits, xmark } from '../../agent/node-iptables/src/sets/bits.ts';
import { type Bound, type IntervalSet, covers, includes, intersect, interval, pairsOf, subtract, union } from '../../agent/node-iptables/src/sets/interval-set.ts';
import { type NamePattern, type NameSet, hasName, intersectNames, namePattern, nameSet, patternCovers, pickName, subtractNames } from '../../agent/node-iptables/src/sets/name-set.ts';
import { randomOf } from '../fuzz/random.ts';

const seed = Number(process.env['SEED'] ?? 1);
t.comment(`SEED=${seed}`);

t.test('intervals are what lists of single values are', async (t) => {
  const random = randomOf(seed);
  for (const kind of [Number, BigInt] as readonly ((value: number) => Bound)[]) {
    const values = Array.from({ length: 32 }, (_, at) => at);
    const aSet = (): IntervalSet => union(Array.from({ length: random.int(5) }, (): [Bound, Bound] => { const from = random.int(24); return [kind(from), kind(from + random.int(7))]; }));
    const listed = (set: IntervalSet): number[] => values.filter((value) => includes(set, kind(value)));
    for (let round = 0; round < 2000; round++) {
      const [a, b] = [aSet(), aSet()];
      const [inA, inB] = [listed(a), listed(b)];
      const both = inA.filter((value) => inB.includes(value));
      const rest = inA.filter((value) => !inB.includes(value));
      const wrong =
        String(listed(intersect(a, b))) !== String(both) ? 'intersect' :
        String(listed(subtract(a, b))) !== String(rest) ? 'subtract' :
        covers(b, a) !== (rest.length === 0) ? 'covers' :
        [intersect(a, b), subtract(a, b), a].some((set) => !isTidy(set)) ? 'a set that is not sorted and apart' :
        // Callers compare by identity to see that nothing was cut.
        rest.length === 0 && intersect(a, b) !== a ? 'intersect gives a copy' :
        both.length === 0 && subtract(a, b) !== a ? 'subtract gives a copy' : undefined;
      if (wrong) return t.fail(`${wrong} of [${a.join()}] and [${b.join()}]`, { seed, round });
    }
  }
  t.same(pairsOf(union([[5, 9], [1, 3], [3, 4], [7, 8], [2, 2]])), [[1, 4], [5, 9]]);
});

function isTidy(set: IntervalSet): boolean {
  return set.every((bound, at) => at === 0 || set[at - 1]! < bound);
}

t.test('names are what the kernel compares, letter by letter', async (t) => {
  const random = randomOf(seed);
  const letters = ['a', 'b'];
  const names = ['', ...letters, ...letters.flatMap((a) => letters.map((b) => a + b)), ...letters.flatMap((a) => letters.flatMap((b) => letters.map((c) => a + b + c)))];
  const texts = [...names.filter((name) => name !== ''), ...names.map((name) => `${name}+`)];
  const takes = (text: string, name: string): boolean => (text.endsWith('+') ? name.startsWith(text.slice(0, -1)) : name === text);
  for (let round = 0; round < 4000; round++) {
    const first = random.pick(texts);
    let set: NameSet | undefined = nameSet(first);
    let expected = names.filter((name) => takes(first, name));
    for (let cuts = random.int(5); cuts > 0 && set; cuts--) {
      const text = random.pick(texts);
      const pattern: NamePattern = namePattern(text);
      const taken = intersectNames(set, pattern);
      const left = subtractNames(set, pattern);
      const [inTaken, inLeft] = [taken, left].map((part) => names.filter((name) => part !== undefined && hasName(part, name)));
      if (String(inTaken) !== String(expected.filter((name) => takes(text, name)))) return t.fail(`taken by ${text} from ${first}`, { seed, round });
      if (String(inLeft) !== String(expected.filter((name) => !takes(text, name)))) return t.fail(`left by ${text} of ${first}`, { seed, round });
      if (inTaken!.length === 0 && taken === undefined && left !== set) return t.fail(`a copy where ${text} takes nothing of ${first}`, { seed, round });
      const keep = random.pick(['taken', 'left'] as const);
      set = keep === 'taken' ? taken : left;
      expected = expected.filter((name) => takes(text, name) === (keep === 'taken'));
    }
    const picked = set && pickName(set, ['bb']);
    if (picked !== undefined && !hasName(set!, picked)) return t.fail(`picked ${picked}, which is not of the set`, { seed, round });
  }
  t.ok(patternCovers(namePattern('eni+'), namePattern('eni8ca2e41546c')), 'an interface of the VPC CNI');
  t.notOk(patternCovers(namePattern('eni+'), namePattern('en+')), 'a pattern is no name of a narrower one');
  t.ok(patternCovers(namePattern('abcdefghijklmn+'), namePattern('abcdefghijklmno')), 'all 15 bytes of a name count');
  t.notOk(patternCovers(namePattern('e+i0'), namePattern('eni0')), 'a plus in the middle is a letter');
});

t.test('bits are what every value they can have is', async (t) => {
  const random = randomOf(seed);
  const every = Array.from({ length: 16 }, (_, value) => value);
  const aBits = (): Bits => { const known = (random.int(16) | ~15) >>> 0; return { known, value: (random.int(16) & known & 15) >>> 0 }; };
  const can = (bits: Bits, value: number): boolean => ((value ^ bits.value) & bits.known) === 0;
  for (let round = 0; round < 5000; round++) {
    const bits = aBits();
    const [value, mask] = [random.int(16), random.int(16)];
    const mine = every.filter((one) => can(bits, one));
    const matching = mine.filter((one) => (one & mask) === value);
    const asked = matching.length === 0 ? 'none' : matching.length === mine.length ? 'all' : 'some';
    if (matchBits(bits, value, mask) !== asked) return t.fail(`${JSON.stringify(bits)} & ${mask} == ${value}: ${asked} was expected`, { seed });
    if (asked === 'some') {
      const taken = every.filter((one) => can(takeBits(bits, value, mask), one));
      const left = leaveBits(bits, value, mask).flatMap((part) => every.filter((one) => can(part, one)));
      if (String(taken) !== String(matching)) return t.fail('takeBits', { seed, bits, value, mask });
      if (String(left.sort((a, b) => a - b)) !== String(mine.filter((one) => !matching.includes(one)))) return t.fail('leaveBits', { seed, bits, value, mask });
    }
    const after = xmark(bits, value, mask);
    if (!mine.every((one) => can(after, ((one & ~mask) ^ value) >>> 0))) return t.fail('xmark forgets a value', { seed, bits, value, mask });
    if (((after.known ^ (bits.known | mask)) & 15) !== 0) return t.fail('xmark knows more or less than it can', { seed, bits, value, mask });
    const other = aBits();
    if (!every.every((one) => (!can(bits, one) && !can(other, one)) || can(hullBits(bits, other), one))) return t.fail('hullBits', { seed, bits, other });
  }
  t.equal(matchBits(knownBits(0xffffffff), 0x3, 0x1), 'none', 'a value with bits outside its mask matches nothing, as in the kernel');
});

t.test('addresses', async (t) => {
  const v4: readonly (readonly [string, string | undefined])[] = [
    ['169.254.169.254', '169.254.169.254'], ['255.255.255.255', '255.255.255.255'], ['0.0.0.0', '0.0.0.0'],
    ['1.2.3', undefined], ['1.2.3.4.5', undefined], ['256.1.1.1', undefined], ['1..2.3', undefined], ['', undefined], ['a.b.c.d', undefined], ['1.2.3.4 ', undefined],
    // To iptables and inet_aton this is 10.8.0.1.
    ['10.010.0.1', undefined],
  ];
  for (const [text, same] of v4) {
    const value = parseIPv4(text);
    t.equal(value === undefined ? undefined : formatAddress('ipv4', value), same, text);
  }
  const v6: readonly (readonly [string, string | undefined])[] = [
    ['fd00:ec2::254', 'fd00:ec2::254'], ['FD00:0EC2:0:0:0:0:0:0254', 'fd00:ec2::254'], ['::', '::'], ['::1', '::1'], ['1::', '1::'],
    ['::ffff:169.254.169.254', '::ffff:a9fe:a9fe'], ['1:0:0:2:0:0:0:3', '1:0:0:2::3'], ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1:2:3:4:5:6:7', undefined], ['1::2::3', undefined], [':::', undefined], ['12345::', undefined], ['g::', undefined], ['1:2:3:4:5:6:7::8', undefined], ['::1.2.3.400', undefined],
  ];
  for (const [text, same] of v6) {
    const value = parseIPv6(text);
    t.equal(value === undefined ? undefined : formatAddress('ipv6', value), same, text);
  }
  t.same(addressBlock('ipv4', '169.254.169.254/16'), interval(parseIPv4('169.254.0.0')!, parseIPv4('169.255.0.0')!), 'host bits are cleared, as the kernel does');
  t.same(addressBlock('ipv4', '10.0.0.0/255.0.0.0'), addressBlock('ipv4', '10.0.0.0/8'));
  t.same(addressBlock('ipv4', '0.0.0.0/0'), [0, 2 ** 32]);
  t.equal(addressBlock('ipv4', '169.254.0.254/255.255.0.255'), undefined, 'a mask with holes is no block');
  t.same(addressBlock('ipv4', '0/0'), [0, 2 ** 32]);
  t.equal(addressBlock('ipv4', 'imds.internal'), undefined);
  t.equal(addressBlock('ipv4', '10.0.0.0/33'), undefined);
  t.equal(addressBlock('ipv4', '10.0.0.0/'), undefined);
  t.equal(prefixLength('ipv4', '010'), undefined, 'octal to iptables, so not read');
  t.equal(prefixLength('ipv6', 'ffff:ffff::'), 32);
  t.same(addressBlock('ipv6', 'fd00:ec2::254/128'), interval(parseIPv6('fd00:ec2::254')!, parseIPv6('fd00:ec2::255')!));
});
