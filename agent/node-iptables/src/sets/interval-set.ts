/**
 * Sets of numbers as sorted, disjoint, half-open intervals in one flat list: [from, below, from, below, …].
 *
 * Half-open, so that a complement needs no "plus one": the same code serves ports (number), IPv4 addresses
 * (number below 2^32) and IPv6 addresses (bigint below 2^128). A set never mixes the two kinds of number.
 */
export type Bound = number | bigint;
export type IntervalSet = readonly Bound[];

export const EMPTY: IntervalSet = [];

/** The set of all values from `from` up to, not including, `below`. */
export const interval = (from: Bound, below: Bound): IntervalSet => (from < below ? [from, below] : EMPTY);

/** Whether it holds one value and no more. */
export const isOne = (set: IntervalSet): boolean =>
  set.length === 2 && (typeof set[0] === 'bigint' ? set[0] + 1n : set[0]! + 1) === set[1];

export const isEmpty = (set: IntervalSet): boolean => set.length === 0;

/** Any list of [from, below) pairs, in any order and overlapping, as a set. */
export function union(pairs: Iterable<readonly [Bound, Bound]>): IntervalSet {
  const sorted = [...pairs].filter(([from, below]) => from < below).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const out: Bound[] = [];
  for (const [from, below] of sorted) {
    const last = out.length - 1;
    if (last > 0 && from <= out[last]!) {
      if (below > out[last]!) out[last] = below;
    } else {
      out.push(from, below);
    }
  }
  return out;
}

/** Everything that is in one or the other. */
export function join(a: IntervalSet, b: IntervalSet): IntervalSet {
  const out: Bound[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const mine = j >= b.length || (i < a.length && a[i]! <= b[j]!);
    const from = mine ? a[i]! : b[j]!;
    const below = mine ? a[i + 1]! : b[j + 1]!;
    if (mine) i += 2;
    else j += 2;
    const last = out.length - 1;
    if (last < 0 || from > out[last]!) out.push(from, below);
    else if (below > out[last]!) out[last] = below;
  }
  return out;
}

export const pairsOf = (set: IntervalSet): [Bound, Bound][] => {
  const pairs: [Bound, Bound][] = [];
  for (let at = 0; at < set.length; at += 2) pairs.push([set[at]!, set[at + 1]!]);
  return pairs;
};

/** What is in both. Returns `a` itself when `b` covers it, so that callers can compare by identity. */
export function intersect(a: IntervalSet, b: IntervalSet): IntervalSet {
  if (a === b) return a;
  // The commonest question by far: one value or one block against one interval.
  if (a.length === 2 && b.length === 2) {
    if (b[0]! <= a[0]! && a[1]! <= b[1]!) return a;
    const from = a[0]! > b[0]! ? a[0]! : b[0]!;
    const below = a[1]! < b[1]! ? a[1]! : b[1]!;
    return from < below ? [from, below] : EMPTY;
  }
  const out: Bound[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const from = a[i]! > b[j]! ? a[i]! : b[j]!;
    const below = a[i + 1]! < b[j + 1]! ? a[i + 1]! : b[j + 1]!;
    if (from < below) out.push(from, below);
    if (a[i + 1]! < b[j + 1]!) i += 2;
    else j += 2;
  }
  return sameAs(a, out) ? a : out.length === 0 ? EMPTY : out;
}

/** What is in `a` and not in `b`. Returns `a` itself when nothing is taken away. */
export function subtract(a: IntervalSet, b: IntervalSet): IntervalSet {
  if (a.length === 2 && b.length === 2) {
    if (b[1]! <= a[0]! || a[1]! <= b[0]!) return a;
    if (b[0]! <= a[0]!) return a[1]! <= b[1]! ? EMPTY : [b[1]!, a[1]!];
    return a[1]! <= b[1]! ? [a[0]!, b[0]!] : [a[0]!, b[0]!, b[1]!, a[1]!];
  }
  const out: Bound[] = [];
  let j = 0;
  for (let i = 0; i < a.length; i += 2) {
    let from = a[i]!;
    const below = a[i + 1]!;
    while (j < b.length && b[j + 1]! <= from) j += 2;
    for (let k = j; k < b.length && b[k]! < below; k += 2) {
      if (from < b[k]!) out.push(from, b[k]!);
      from = b[k + 1]!;
    }
    if (from < below) out.push(from, below);
  }
  return sameAs(a, out) ? a : out.length === 0 ? EMPTY : out;
}

export const includes = (set: IntervalSet, value: Bound): boolean => {
  for (let at = 0; at < set.length; at += 2) if (set[at]! <= value && value < set[at + 1]!) return true;
  return false;
};

/** Whether all of `b` is in `a`. Asked of any two classes that may be one, so it makes nothing and stops at the first gap. */
export function covers(a: IntervalSet, b: IntervalSet): boolean {
  let i = 0;
  for (let j = 0; j < b.length; j += 2) {
    const below = b[j + 1]!;
    for (let from = b[j]!; from < below; from = a[i + 1]!) {
      while (i < a.length && a[i + 1]! <= from) i += 2;
      if (i >= a.length || a[i]! > from) return false;
    }
  }
  return true;
}

function sameAs(a: IntervalSet, b: readonly Bound[]): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}
