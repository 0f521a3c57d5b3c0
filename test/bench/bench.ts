// `make bench`: what imds-guard costs, as ratios against a baseline that is timed in the same minutes on the same machine.
// Look before and after a change; nothing here fails a build for being slow. Exit 1 only when something could not be
// measured. Runs in a namespace of its own (test/lab/sandbox.ts), which it fills with rules.
//
// `make bench ONLY=watch`: the daemon alone, at length (ten minutes). `ONLY=probe`: what real packets cost (a quarter of a minute).
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { findSandbox, spawnInside } from '../lab/sandbox.ts';
import { coldRows } from './cold.ts';
import { type Executable, takeExecutable } from './executable.ts';
import { SHAPE_COUNT, judgingRows } from './judging.ts';
import { type Backend, flushAll, liveRow } from './live.ts';
import { loadText, machineText } from './machine.ts';
import { singleFileRows } from './single-file.ts';
import { type Row, tableText } from './table.ts';
import { NotMeasured } from './timing.ts';

const LIVE: readonly { readonly backend: Backend; readonly rules: number; readonly ours: Backend; readonly budgetMs: number }[] = [
  { backend: 'nft', rules: 100, ours: 'nft', budgetMs: 3_000 },
  { backend: 'nft', rules: 10_000, ours: 'nft', budgetMs: 6_000 },
  { backend: 'nft', rules: 50_000, ours: 'nft', budgetMs: 16_000 },
  { backend: 'legacy', rules: 100, ours: 'legacy', budgetMs: 3_000 },
  { backend: 'legacy', rules: 10_000, ours: 'legacy', budgetMs: 5_000 },
  { backend: 'legacy', rules: 50_000, ours: 'legacy', budgetMs: 10_000 },
  { backend: 'legacy', rules: 50_000, ours: 'nft', budgetMs: 8_000 },
];

/** Later than this each run is timed once only: somebody waits for the end. */
const LATE_MS = 150_000;
const start = performance.now();
const late = (): boolean => performance.now() - start > LATE_MS;
const budget = (ms: number): number => (late() ? 0 : ms);

const missing: string[] = [];

/** One thing that cannot be measured does not keep the others from it, and is not forgotten. */
function measured<T>(what: string, measure: () => T, instead: T): T {
  try {
    return measure();
  } catch (error) {
    if (!(error instanceof NotMeasured)) throw error;
    missing.push(`${what}: ${error.message}`);
    return instead;
  }
}

/** In a process and a namespace of its own: its rules and those of the other sections do not meet. */
async function benchSection(name: 'watch' | 'probe', args: readonly string[]): Promise<void> {
  const script = fileURLToPath(new URL(`${name}/section.ts`, import.meta.url));
  const [code] = await once(spawnInside(findSandbox(), process.execPath, [script, ...args], ['ignore', 'inherit', 'inherit']), 'close');
  if (code !== 0) missing.push(`${name}: not all of it, see above`);
}

function benchCommands(executable: Executable): void {
  const cold = measured('cold start', () => coldRows(executable, budget(12_000)), { rows: [], notes: [] });
  process.stdout.write(tableText('cold start', cold.rows));
  for (const note of cold.notes) process.stdout.write(`  ${note}\n`);

  process.stdout.write(tableText('single executable', measured('the single executable', () => singleFileRows(executable, budget(5_000)), [])));
  process.stdout.write('  baseline: `node -e 0` of dist/node.\n');

  const judging: Row[] = [];
  for (let at = 0; at < SHAPE_COUNT; at++) judging.push(...measured(`parse and verdict, shape ${at + 1}`, () => judgingRows(executable, at, budget(5_000)), []));
  process.stdout.write(tableText('parse + verdict alone', judging));
  process.stdout.write('  baseline: the same for 20 rules, which is start-up, and is taken off. The ratio is of the whole processes.\n');

  const live = LIVE.flatMap(({ backend, rules, ours, budgetMs }) => measured(`check, ${backend}, ${rules} rules`, () => [liveRow(executable, backend, rules, ours, budget(budgetMs))], []));
  process.stdout.write(tableText('live', live));
  process.stdout.write('  baseline: iptables-nft-save or iptables-legacy-save of the same tables, alone. Its programs: all that check starts, without us.\n');
  measured('clearing up', flushAll, undefined);
}

async function bench(executable: Executable): Promise<void> {
  process.stdout.write(machineText(executable));
  const only = process.env['ONLY'];
  if (only === undefined) {
    benchCommands(executable);
    process.stdout.write(`\nbest of interleaved runs; noisy: over, on a machine too busy to tell${late() ? '; it took so long that the last were timed once only' : ''}\n`);
  }
  if (only !== 'watch') await benchSection('probe', [executable.launcher]);
  if (only !== 'probe') await benchSection('watch', [executable.launcher, executable.node, only === 'watch' ? 'whole' : 'brief']);
  process.stdout.write(`\n${Math.round((performance.now() - start) / 1000)} s; load now ${loadText()}\n`);
}

const executable = measured('everything', takeExecutable, undefined);
if (executable) {
  try {
    await bench(executable);
  } finally {
    executable.remove();
  }
}
for (const what of missing) console.error(`not measured: ${what}`);
if (missing.length > 0) process.exitCode = 1;
