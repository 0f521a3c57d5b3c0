import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

/** A program to be timed: from the moment it is started to its end, its output thrown away. */
export interface Run {
  readonly file: string;
  readonly args: readonly string[];
  /** A file to read from. */
  readonly stdin?: string;
  /** Exit statuses that mean that it did its work; any other is no measurement. Default: 0. */
  readonly done?: readonly number[];
  /** Brings the world back to where this run starts; not timed. */
  readonly before?: () => void;
}

/** Others run on the machine too, and they only ever add time: the best of several is nearest to what the work costs. */
export interface Sample {
  readonly bestMs: number;
  readonly medianMs: number;
  readonly rounds: number;
}

export class NotMeasured extends Error {
  override readonly name = 'NotMeasured';
}

const LONGEST_MS = 30_000;
const FEWEST_ROUNDS = 3;
const MOST_ROUNDS = 15;

/**
 * Times programs in turns, each round in the other direction, so that a noisy minute meets all of them alike. Each is
 * run until its share of the budget is used up, at least three times; one whose single run is more than its share, once.
 *
 * @throws NotMeasured when a program ends in another way than it should
 */
export function timeInTurns<Name extends string>(runs: Readonly<Record<Name, Run>>, budgetMs: number): Record<Name, Sample> {
  const names = Object.keys(runs) as Name[];
  const times = new Map<Name, number[]>(names.map((name) => [name, []]));
  const shareMs = budgetMs / names.length;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const left = names.filter((name) => !isEnough(times.get(name)!, shareMs));
    for (const name of round % 2 === 0 ? left : left.toReversed()) times.get(name)!.push(timeOnce(runs[name]));
  }
  return Object.fromEntries(names.map((name) => [name, sampleOf(times.get(name)!)])) as Record<Name, Sample>;
}

function isEnough(times: readonly number[], shareMs: number): boolean {
  const takenMs = times.reduce((sum, one) => sum + one, 0);
  return takenMs >= shareMs && (times.length >= FEWEST_ROUNDS || times[0]! >= shareMs);
}

function timeOnce(run: Run): number {
  run.before?.();
  const input = run.stdin === undefined ? undefined : openSync(run.stdin, 'r');
  try {
    const start = performance.now();
    const { status, signal, error, stderr } = spawnSync(run.file, run.args, { stdio: [input ?? 'ignore', 'ignore', 'pipe'], timeout: LONGEST_MS });
    const tookMs = performance.now() - start;
    if (status !== null && (run.done ?? [0]).includes(status)) return tookMs;
    const said = error?.message ?? stderr.toString().trim().split('\n').at(-1) ?? '';
    throw new NotMeasured(`${[run.file.split('/').at(-1), ...run.args].join(' ').slice(0, 120)}: ${signal ?? `exit ${status}`} ${said}`.trim());
  } finally {
    if (input !== undefined) closeSync(input);
  }
}

function sampleOf(times: readonly number[]): Sample {
  const sorted = times.toSorted((a, b) => a - b);
  return { bestMs: sorted[0]!, medianMs: sorted[sorted.length >> 1]!, rounds: sorted.length };
}

/** Runs a program for what it prints, or for what it does to the world; not timed. */
export function runFor(file: string, args: readonly string[], input = '', done: readonly number[] = [0]): string {
  const { status, error, stdout, stderr } = spawnSync(file, args, { input, encoding: 'utf8', maxBuffer: 1 << 28, timeout: LONGEST_MS });
  if (status !== null && done.includes(status)) return stdout;
  throw new NotMeasured(`${[file.split('/').at(-1), ...args].join(' ').slice(0, 120)}: ${error?.message ?? `exit ${status} ${stderr.trim().split('\n').at(-1) ?? ''}`}`);
}
