import type { Sample } from './timing.ts';

/** One line of the result: a measurement against a baseline of the same run. */
export interface Row {
  readonly what: string;
  readonly baseline: string;
  readonly measured: string;
  readonly ratio: string;
  readonly goal: string;
  readonly is: 'ok' | 'over' | 'over, timed once' | 'noisy' | '';
}

export function tableText(title: string, rows: readonly Row[]): string {
  const columns: readonly (keyof Row)[] = ['what', 'baseline', 'measured', 'ratio', 'goal', 'is'];
  const head: Record<keyof Row, string> = { what: title, baseline: 'baseline', measured: 'measured', ratio: 'ratio', goal: 'goal', is: '' };
  const widths = columns.map((column) => Math.max(...[head, ...rows].map((row) => row[column].length)));
  const line = (row: Readonly<Record<keyof Row, string>>): string =>
    columns.map((column, at) => (column === 'what' || column === 'is' ? row[column].padEnd(widths[at]!) : row[column].padStart(widths[at]!))).join('  ').trimEnd();
  return `\n${[line(head), ...rows.map(line)].join('\n')}\n`;
}

/** `1.26 s`, `87 ms`, `4.1 ms` */
export function msText(value: number): string {
  if (Math.abs(value) >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${Math.abs(value) >= 20 ? Math.round(value) : value.toFixed(1)} ms`;
}

export const ratioText = (value: number): string => `${value.toFixed(2)} ×`;

/** Over, unless the machine was so busy that the usual run took half as long again as the best; of one run nobody knows. */
export function judged(within: boolean, ...samples: readonly Sample[]): Row['is'] {
  if (within) return 'ok';
  if (samples.some(({ bestMs, medianMs }) => medianMs > 1.5 * bestMs)) return 'noisy';
  return samples.some(({ rounds }) => rounds < 3) ? 'over, timed once' : 'over';
}
