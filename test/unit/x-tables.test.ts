import t from 'tap';
import { decodeInfo, hasRules, isSameInfo, shapeOf } from '../../agent/node-iptables/src/netlink/x-tables.ts';

/** What the kernel says of `filter` with no rule: three chains with a policy each, and the entry that ends it. */
const EMPTY = Buffer.concat([Buffer.from('filter'.padEnd(32, '\0')), words(0xe, 0xffffffff, 0, 152, 304, 0xffffffff, 0xffffffff, 0, 152, 304, 0xffffffff, 4, 632)]);

function words(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [at, number] of numbers.entries()) bytes.writeUInt32LE(number, 4 * at);
  return bytes;
}

const LAYOUT = { ipv4: { next: 90, counters: 96, target: 112 }, ipv6: { next: 142, counters: 152, target: 168 } } as const;

/** An entry with what it says in front, counters, and a target behind. */
function entry(family: 'ipv4' | 'ipv6', says: number, packets: bigint, target = 40): Buffer {
  const layout = LAYOUT[family];
  const bytes = Buffer.alloc(layout.target + target);
  bytes.writeUInt32LE(says, 0);
  bytes.writeUInt16LE(layout.target, layout.next - 2);
  bytes.writeUInt16LE(bytes.length, layout.next);
  bytes.writeBigUInt64LE(packets, layout.counters);
  bytes.writeBigUInt64LE(packets * 60n, layout.counters + 8);
  return bytes;
}

t.test('a table without rules has its policies, and one entry more', async (t) => {
  t.same(decodeInfo(EMPTY), { hooks: 0xe, offsets: [0xffffffff, 0, 152, 304, 0xffffffff, 0xffffffff, 0, 152, 304, 0xffffffff], entries: 4, size: 632 });
  t.equal(hasRules(decodeInfo(EMPTY)), false);
  t.equal(hasRules({ ...decodeInfo(EMPTY), entries: 5 }), true);
});

t.test('tables differ in entries, in bytes, or in where a chain begins', async (t) => {
  const info = decodeInfo(EMPTY);
  t.ok(isSameInfo(info, decodeInfo(EMPTY)));
  for (const change of [{ entries: 5 }, { size: 784 }, { hooks: 6 }, { offsets: [...info.offsets.slice(0, 9), 0] }]) t.notOk(isSameInfo(info, { ...info, ...change }), JSON.stringify(change));
});

for (const family of ['ipv4', 'ipv6'] as const) {
  t.test(`${family}: packets alone do not change the shape; all else does`, async (t) => {
    const shape = shapeOf(Buffer.concat([entry(family, 1, 0n), entry(family, 2, 0n)]), family);
    t.match(shape, /^[0-9a-f]{16}$/);
    t.equal(shapeOf(Buffer.concat([entry(family, 1, 7n), entry(family, 2, 0xffffffffffn)]), family), shape);
    t.not(shapeOf(Buffer.concat([entry(family, 2, 0n), entry(family, 1, 0n)]), family), shape, 'another order');
    const bytes = Buffer.concat([entry(family, 1, 0n), entry(family, 2, 0n)]);
    const unseen = [...bytes.keys()].filter((at) => {
      const other = Buffer.from(bytes);
      other[at]! ^= 0x80;
      return shapeOf(other, family) === shape;
    });
    const counted = Array.from({ length: 16 }, (_, at) => LAYOUT[family].counters + at);
    t.same(unseen, [...counted, ...counted.map((at) => at + bytes.length / 2)]);
    t.equal(shapeOf(Buffer.concat([Buffer.alloc(1), bytes]).subarray(1), family), shape, 'wherever the bytes begin');
  });

  t.test(`${family}: two changes do not cancel out`, async (t) => {
    const shapes = new Set(Array.from({ length: 4096 }, (_, bits) => shapeOf(Buffer.concat([entry(family, (bits & 0x3f) * 2 ** 26, 0n), entry(family, (bits >> 6) * 2 ** 26, 0n)]), family)));
    t.equal(shapes.size, 4096);
  });

  t.test(`${family}: what is no list of entries has no shape`, async (t) => {
    const whole = entry(family, 1, 0n);
    t.equal(shapeOf(whole.subarray(0, whole.length - 8), family), undefined);
    t.equal(shapeOf(Buffer.alloc(whole.length), family), undefined);
    t.ok(shapeOf(Buffer.alloc(0), family));
  });
}
