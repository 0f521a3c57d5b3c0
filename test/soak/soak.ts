// No pod gets one token, whoever rewrites the firewall: `make soak [SECONDS=60] [ONLY=name]`. Prints a line a row; exit 1 when
// a row did not hold what is promised, or proves nothing because too little was tried.
//
// Runs inside test/lab/sandbox.ts, so nothing of it can reach the machine's own firewall.
import { alone, type AdversaryName } from './adversaries.ts';
import { fleetSoak } from './fleet.ts';
import { round, type Outcome, type RoundOptions } from './round.ts';

interface Row {
  readonly name: string;
  readonly adversary: AdversaryName | 'nobody';
  /** `nothing`: what is measured is how much gets through, and for how long. */
  readonly promised: 'no token' | 'nothing' | 'tokens';
  readonly options: Omit<RoundOptions, 'seconds' | 'adversary'>;
}

const against = (adversary: AdversaryName, options: Row['options'] = { daemon: 'alone' }, how = '', promised: Row['promised'] = 'no token'): Row =>
  ({ name: `${adversary}${how}`, adversary, promised, options });

const rows: readonly Row[] = [
  { name: 'nobody, no daemon', adversary: 'nobody', promised: 'tokens', options: { daemon: 'none' } },
  ...alone.map(adversary => against(adversary)),
  against('killed'),
  against('together'),
  against('together-killed'),
  // The iptables rules stay where they are.
  against('unguarded-killed'),
  // A table whose owner is dead is everybody's: what is left then is the time until the next one has started.
  against('ruleset-killed', { daemon: 'alone' }, '', 'nothing'),
  against('all-killed', { daemon: 'alone' }, '', 'nothing'),
  ...(['unguarded-killed', 'ruleset-killed', 'all-killed'] as const).map(adversary => against(adversary, { daemon: 'kept' }, ', socket kept')),
  ...(['flushed', 'restored', 'deleted'] as const).map(adversary => against(adversary, { daemon: 'alone', args: ['--backend', 'legacy'], backend: 'legacy' }, ', legacy')),
  ...[...alone, 'together' as const].filter(name => name !== 'unguarded').map(adversary => against(adversary, { daemon: 'alone', args: ['--guard', 'none'] }, ', no guard table', 'nothing')),
];
const attemptsPerMinute = 10_000;

const seconds = Number(process.argv[2] ?? 60);
const only = process.argv[3];
const chosen = rows.filter(({ name, adversary }) => only === undefined || only === name || only === adversary);
if ((chosen.length === 0 && only !== 'fleet') || !(seconds > 0)) {
  console.error(`usage: soak.ts [SECONDS] [NAME]; names: ${[...new Set(rows.map(({ adversary }) => adversary)), 'fleet'].join(' ')}`);
  process.exit(1);
}

const columns = [30, 9, 9, 8, 8, 11, 9] as const;
if (chosen.length > 0) line(['adversary', 'rounds', 'attempts', 'tokens', 'arrived', 'overwrites', 'answer'], 'in order after');
for (const row of chosen) {
  try {
    const outcome = await round({ ...row.options, adversary: row.adversary, seconds });
    tell(row, outcome);
    for (const broken of brokenBy(row, outcome)) fail(broken);
  } catch (error) {
    line([row.name], '');
    fail(String(error));
  }
}

if (only === undefined || only === 'fleet') await tellFleet();

/** Five thousand nodes at one API server; NODES for fewer. */
async function tellFleet(): Promise<void> {
  const outcome = await fleetSoak(Number(process.env['NODES'] ?? 5000));
  if (typeof outcome === 'string') {
    console.log(`fleet: not tried: ${outcome}`);
    return;
  }
  const { nodes, restPerSecond, burstSeconds, burstPeakPerSecond, fleetSeconds, totals } = outcome;
  console.log(`fleet: ${nodes} nodes; at rest ${restPerSecond.toFixed(2)} writes a second; a change to all of them spread over ${burstSeconds.toFixed(1)} s, ${burstPeakPerSecond} in the fullest second; fleet ${fleetSeconds.toFixed(2)} s, ${JSON.stringify(totals)}`);
  if (restPerSecond > nodes / 300) fail(`more than ${(nodes / 300).toFixed(2)} writes a second at rest`);
  if (burstSeconds < 30) fail('a change to all of them is not spread over 30 s');
  if (fleetSeconds > 3) fail('fleet takes longer than 3 s');
  if (totals['open'] !== nodes) fail('not every node has told its change');
}

function line(cells: readonly (string | number)[], last: string): void {
  console.log([...cells.map((cell, at) => (at === 0 ? String(cell).padEnd(columns[at] ?? 0) : String(cell).padStart(columns[at] ?? 0))), ` ${last}`].join(' '));
}

function fail(why: string): void {
  console.log(`  FAILED ${why}`);
  process.exitCode = 1;
}

function tell({ name }: Row, { rounds, attempts, tokens, arrived, status, backAfterMs, leaks }: Outcome): void {
  const overwrites = Object.values(status?.counts.overwritesByCulprit ?? {}).reduce((all, times) => all + times, 0);
  const lengths = leaks.map(({ fromMs, toMs }) => toMs - fromMs);
  const open = leaks.length === 0 ? '' : `; open ${leaks.length} times, ${Math.round(lengths.reduce((all, ms) => all + ms, 0))} ms in all, ${Math.round(Math.max(...lengths))} ms the longest`;
  line([name, rounds, attempts, tokens, arrived, status === undefined ? '-' : overwrites, status?.answer ?? '-'], `${backAfterMs === undefined ? '-' : `${backAfterMs} ms`}${open}`);
}

function brokenBy({ adversary, promised }: Row, outcome: Outcome): string[] {
  const { attempts, tokens, version1, connected, arrived, live, rounds, trouble, missing, nodeReaches, status } = outcome;
  const holds: readonly (readonly [boolean, string])[] = [
    [attempts >= (attemptsPerMinute * seconds) / 60, `only ${attempts} attempts`],
    [adversary === 'nobody' || rounds > 0, `the adversary did nothing: ${trouble}`],
    [nodeReaches, 'the node itself does not reach IMDS'],
    [missing.length === 0, `not there again: ${missing.join('; ')}`],
    [status === undefined || status.answer === 'blocked', `it says ${status?.answer}`],
    [promised !== 'no token' || (tokens === 0 && version1 === 0 && connected === 0 && live.answered === 0 && arrived === 0), `pods reached IMDS: ${JSON.stringify({ tokens, version1, connected, live, arrived })}`],
    [promised !== 'tokens' || (tokens > 0 && version1 > 0 && live.answered > 0 && arrived > 0), 'the hammers get nothing although nobody keeps them from it'],
  ];
  return holds.filter(([held]) => !held).map(([, why]) => why);
}
