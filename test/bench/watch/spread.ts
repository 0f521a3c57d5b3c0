/** What many measurements of one thing come to. */
export interface Spread {
  readonly count: number;
  readonly median: number;
  readonly p99: number;
  readonly worst: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
  return { count: sorted.length, median: at(0.5), p99: at(0.99), worst: at(1) };
}
