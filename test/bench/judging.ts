import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Executable } from './executable.ts';
import { type Shape, flat, hostileAccepts, hostileDrops, kube, kubeWithOurs, nativeNft, portsWithComments } from './shapes.ts';
import { type Row, judged, msText, ratioText } from './table.ts';
import { type Run, timeInTurns } from './timing.ts';

/** What there is to judge, and whether the goal is about it: the hostile ones and JSON only show where it ends. */
const SHAPES: readonly { readonly name: string; readonly shape: Shape; readonly goalMs?: number }[] = [
  { name: 'flat', shape: flat, goalMs: 250 },
  { name: 'kube-like, documented rule', shape: kubeWithOurs, goalMs: 250 },
  { name: 'kube-like, open', shape: kube, goalMs: 250 },
  { name: 'ports, quoted comments', shape: portsWithComments, goalMs: 250 },
  { name: 'hostile, /32 accepts', shape: hostileAccepts, goalMs: 250 },
  { name: 'hostile, /32 drops', shape: hostileDrops, goalMs: 250 },
  { name: 'native table, nft -j', shape: nativeNft },
];
export const SHAPE_COUNT = SHAPES.length;

const SIZES = [5_000, 10_000, 50_000, 100_000] as const;
/** Ten times the rules; what is fixed (the JIT's warming up) helps, what grows faster than the rules is over. */
const GROWTH = 13;

/** Parse and verdict alone: `check --from` a file of N rules less `check --from` a file of one, both fresh processes. */
export function judgingRows(executable: Executable, at: number, budgetMs: number): Row[] {
  const { name, shape, goalMs } = SHAPES[at]!;
  const run = (size: number): Run => {
    const file = join(executable.directory, `table-${size}`);
    writeFileSync(file, shape(size));
    return { file: executable.launcher, args: ['check', '--from', file], done: [0, 1, 2] };
  };
  const [tiny, small, medium, large, huge] = [run(SMALLEST), ...SIZES.map(run)] as [Run, Run, Run, Run, Run];
  const timed = timeInTurns({ tiny, small, medium, large, huge }, budgetMs);
  const msOf = (one: 'small' | 'medium' | 'large' | 'huge'): number => Math.max(0.1, timed[one].bestMs - timed.tiny.bestMs);
  const growth = msOf('huge') / msOf('medium');
  return [
    {
      what: `${name}: 50,000 rules (${answerTo(large)})`,
      baseline: msText(timed.tiny.bestMs),
      measured: msText(msOf('large')),
      ratio: ratioText(timed.large.bestMs / timed.tiny.bestMs),
      goal: goalMs === undefined ? '' : `≤ ${goalMs} ms`,
      is: goalMs === undefined ? '' : judged(msOf('large') <= goalMs, timed.large, timed.tiny),
    },
    {
      what: `  5,000: ${msText(msOf('small'))}; 10,000 and 100,000:`,
      baseline: msText(msOf('medium')),
      measured: msText(msOf('huge')),
      ratio: ratioText(growth),
      goal: `≤ ${GROWTH} ×`,
      is: judged(growth <= GROWTH, timed.huge, timed.medium),
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
