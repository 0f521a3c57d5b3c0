/**
 * A 32-bit value of which some bits are known: the packet mark, the connection mark, TCP flags, conntrack status.
 * Calico decides by single mark bits, so the bits are followed one by one: known 0, known 1, unknown.
 */
export interface Bits {
  /** A set bit says: this bit of `value` is known. */
  readonly known: number;
  /** The known bits; unknown ones are 0 here. Unsigned. */
  readonly value: number;
}

export const UNKNOWN_BITS: Bits = { known: 0, value: 0 };
export const knownBits = (value: number): Bits => ({ known: 0xffffffff, value: value >>> 0 });

/** How the question `(bits & mask) == value` is answered: for all, for none, or for some of what the bits can be. */
export function matchBits(bits: Bits, value: number, mask: number): 'all' | 'some' | 'none' {
  if (((bits.value ^ value) & mask & bits.known) !== 0 || (value & ~mask) !== 0) return 'none';
  return (mask & ~bits.known) === 0 ? 'all' : 'some';
}

/** The part of `bits` for which `(bits & mask) == value`. */
export const takeBits = (bits: Bits, value: number, mask: number): Bits => ({
  known: (bits.known | mask) >>> 0,
  value: ((bits.value & ~mask) | (value & mask)) >>> 0,
});

/** The rest: disjoint parts, one for each bit that can differ first. */
export function leaveBits(bits: Bits, value: number, mask: number): Bits[] {
  const parts: Bits[] = [];
  let head = bits;
  for (let bit = 1 >>> 0, n = 0; n < 32; n++, bit = (bit << 1) >>> 0) {
    if ((mask & bit) === 0 || (bits.known & bit) !== 0) continue;
    parts.push(takeBits(head, ~value & bit, bit));
    head = takeBits(head, value & bit, bit);
  }
  return parts;
}

/** `new = (old & ~mask) ^ value`, what `--set-xmark value/mask` does (iptables-extensions(8), MARK). */
export function xmark(bits: Bits, value: number, mask: number): Bits {
  const cleared = { known: (bits.known | mask) >>> 0, value: (bits.value & ~mask) >>> 0 };
  return { known: cleared.known, value: ((cleared.value ^ value) & cleared.known) >>> 0 };
}

/** Every value either of the two can have, and perhaps more. */
export const hullBits = (a: Bits, b: Bits): Bits => {
  const known = (a.known & b.known & ~(a.value ^ b.value)) >>> 0;
  return { known, value: (a.value & known) >>> 0 };
};

/** Whether `a` can have every value that `b` can. */
export const coversBits = (a: Bits, b: Bits): boolean => (a.known & ~b.known) === 0 && ((a.value ^ b.value) & a.known) === 0;

export const sameBits = (a: Bits, b: Bits): boolean => a.known === b.known && a.value === b.value;
