import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { executable as singleFile, noExecutable } from '../executable/executables.ts';
import type { Executable } from './executable.ts';
import { type Row, judged, msText, ratioText } from './table.ts';
import { NotMeasured, type Run, timeInTurns } from './timing.ts';

/** A node's kubelet waits for it. */
const GOAL = 4;
const SAVED = '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP\nCOMMIT\n';

/** The start of the single executable, which starts no program here, against `node -e 0`, and of dist/ beside it. */
export function singleFileRows({ launcher, node }: Executable, budgetMs: number): Row[] {
  if (noExecutable !== false) throw new NotMeasured(noExecutable);
  const saved = join(tmpdir(), `imds-guard-bench-${process.pid}.txt`);
  writeFileSync(saved, SAVED);
  const check = ['check', '--from', saved];
  const answers = [0, 1, 2];
  const runs = {
    node: { file: node, args: ['-e', '0'] },
    rules: { file: singleFile, args: ['rules'] },
    check: { file: singleFile, args: check, done: answers },
    'dist: rules': { file: launcher, args: ['rules'] },
    'dist: check': { file: launcher, args: check, done: answers },
  } satisfies Record<string, Run>;
  try {
    const timed = timeInTurns(runs, budgetMs);
    const row = (what: string, name: keyof typeof runs, goal: boolean): Row => ({
      what,
      baseline: msText(timed.node.bestMs),
      measured: msText(timed[name].bestMs),
      ratio: ratioText(timed[name].bestMs / timed.node.bestMs),
      goal: goal ? `≤ ${GOAL} ×` : '',
      is: goal ? judged(timed[name].bestMs <= GOAL * timed.node.bestMs, timed.node, timed[name]) : '',
    });
    return [row('rules', 'rules', true), row('check --from, one rule', 'check', true), row('dist/: rules', 'dist: rules', false), row('dist/: check --from', 'dist: check', false)];
  } finally {
    rmSync(saved);
  }
}
