import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Executable } from './executable.ts';
import { type Shape, flat, hostileAccepts, hostileDrops, kube, kubeWithOurs, nativeNft, portsWithComments } from './shapes.ts';
import { type Row, judged, msText, ratioText } from './table.ts';
import { type Run, type Sample, timeInTurns } from './timing.ts';

/** What there is to judge, and whether the goal is about it: the hostile ones and JSON only show where it ends. */
const SHAPES: readonly { readonly name: string; readonly shape: Shape; readonly goalMs?: number }[] = [
  { name: 'flat', shape: flat, goalMs: 250 },
  { name: 'kube-like, after apply', shape: kubeWithOurs, goalMs: 250 },
  { name: 'kube-like, open', shape: kube, goalMs: 250 },
  { name: 'ports, quoted comments', shape: portsWithComments, goalMs: 250 },
  { name: 'hostile, /32 accepts', shape: hostileAccepts, goalMs: 250 },
  { name: 'hostile, /32 drops', shape: hostileDrops, goalMs: 250 },
  { name: 'native table, nft -j', shape: nativeNft },
];
export const SHAPE_COUNT = SHAPES.length;

/** Ten times the rules; the JIT warms up meanwhile, so what is linear stays below, and what grows faster is over. */
const GROWTH = 13;
/** Twice the largest size is asked about only where that takes no time. */
const QUICK_MS = 1000;

/** Parse and verdict alone: `check --from` a file of N rules less `check --from` a file of a few, all fresh processes. */
export function judgingRows(executable: Executable, at: number, budgetMs: number): Row[] {
  const { name, shape, goalMs } = SHAPES[at]!;
  const run = (size: number): Run => {
    const file = join(executable.directory, `table-${size}`);
    writeFileSync(file, shape(size));
    return { file: executable.launcher, args: ['check', '--from', file], done: [0, 1, 2] };
  };
  const runs = { start: run(SMALLEST), '5,000': run(5_000), '10,000': run(10_000), '50,000': run(50_000) } satisfies Record<string, Run>;
  const timed = timeInTurns(runs, budgetMs);
  const overStart = ({ bestMs }: Sample): number => Math.max(0.1, bestMs - timed.start.bestMs);
  const [small, medium, large] = [overStart(timed['5,000']), overStart(timed['10,000']), overStart(timed['50,000'])];
  const huge = large > QUICK_MS ? undefined : overStart(timeInTurns({ '100,000': run(100_000) }, budgetMs / 4)['100,000']);
  const growth = large / small;
  return [
    {
      what: `${name}: 50,000 rules (${answerTo(runs['50,000'])})`,
      baseline: msText(timed.start.bestMs),
      measured: msText(large),
      ratio: ratioText(timed['50,000'].bestMs / timed.start.bestMs),
      goal: goalMs === undefined ? '' : `≤ ${goalMs} ms`,
      is: goalMs === undefined ? '' : judged(large <= goalMs, timed['50,000'], timed.start),
    },
    {
      what: `  from 5,000 (10,000: ${msText(medium)}${huge === undefined ? '' : `, 100,000: ${msText(huge)}`})`,
      baseline: msText(small),
      measured: msText(large),
      ratio: ratioText(growth),
      goal: `≤ ${GROWTH} ×`,
      is: judged(growth <= GROWTH, timed['50,000'], timed['5,000']),
    },
  ];
}

/** A table of any shape has to start somewhere; kube-like ones begin with the dozen rules that are always there. */
const SMALLEST = 20;

function answerTo(run: Run): string {
  const { stdout } = spawnSync(run.file, run.args, { encoding: 'utf8' });
  const last = stdout.trimEnd().split('\n').at(-1) ?? '';
  return [/^\w+/.exec(last)?.[0], /\((\w+)\)$/.exec(last)?.[1]].filter((word) => word !== undefined).join(', ');
}
