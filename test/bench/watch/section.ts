// The daemon's section of `make bench`, in a network namespace of its own: `section.ts LAUNCHER NODE whole|brief`.
import { type Row, tableText } from '../table.ts';
import { type Day, growthRows } from './growth.ts';
import { idleRows, measureBareNode } from './idle-cost.ts';
import { podLinksRow } from './pod-links.ts';
import { legacyRepairRow } from './repair-legacy.ts';
import { type RepairSituation, repairRow } from './repair-time.ts';

interface Lengths {
  readonly situations: readonly RepairSituation[];
  readonly samples: number;
  readonly legacySamples: number;
  readonly idleMs: number;
  readonly day: Day;
}

const SITUATIONS: readonly RepairSituation[] = [100, 50_000].flatMap((rules) =>
  [false, true].flatMap((rewriting) => (['auto', 'none'] as const).map((guard) => ({ rules, rewriting, guard }))),
);
const LENGTHS: Readonly<Record<string, Lengths>> = {
  whole: { situations: SITUATIONS, samples: 100, legacySamples: 20, idleMs: 60_000, day: { overwrites: 10_000, requests: 8640, restMs: 60_000 } },
  // Beside all the other sections, in two minutes: the same questions, answered less exactly.
  brief: { situations: SITUATIONS.filter(({ guard }) => guard === 'none'), samples: 40, legacySamples: 5, idleMs: 10_000, day: { overwrites: 2000, requests: 1000, restMs: 5000 } },
};
const LINKS = 1000;

const [launcher = '', node = '', length = 'whole'] = process.argv.slice(2);
const { situations, samples, legacySamples, idleMs, day } = LENGTHS[length]!;

/** What cannot be measured does not keep the rest from it, and is not forgotten. */
async function measured(what: string, measure: () => Promise<readonly Row[]>): Promise<readonly Row[]> {
  try {
    return await measure();
  } catch (error) {
    process.exitCode = 1;
    console.error(`not measured: ${what}: ${error instanceof Error ? error.message : String(error)}`);
    return [];
  }
}

const repairs: Row[] = [];
for (const situation of situations) repairs.push(...(await measured(`repair, ${JSON.stringify(situation)}`, async () => [await repairRow(launcher, situation, samples)])));
const links = await measured('pod links', async () => [await podLinksRow(launcher, LINKS)]);
const growth = await measured('growth', () => growthRows(launcher, day));
const bare = await measureBareNode(node);
const idle: Row[] = [];
for (const rules of [100, 50_000]) idle.push(...(await measured(`idle, ${rules} rules`, () => idleRows(launcher, { what: `${rules.toLocaleString('en')} rules`, rules, legacy: false }, bare, idleMs))));
// From here on the namespace has legacy tables.
idle.push(...(await measured('idle, legacy', () => idleRows(launcher, { what: '100 rules', rules: 100, legacy: true }, bare, idleMs))));
repairs.push(...(await measured('repair, legacy', async () => [await legacyRepairRow(launcher, legacySamples)])));

process.stdout.write(tableText('watch: repair', repairs));
process.stdout.write('  baseline: one restore of the same rule, median / p99. measured: from its loss to its return, as the kernel tells, median / p99 / worst.\n');
process.stdout.write(tableText('watch: idle', idle));
process.stdout.write('  baseline: an idle process of the same Node.\n');
process.stdout.write(tableText('watch: burst and growth', [...links, ...growth]));
