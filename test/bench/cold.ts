import type { Executable } from './executable.ts';
import { type Payload, programsOf } from './programs.ts';
import { type Row, judged, msText, ratioText } from './table.ts';
import { NotMeasured, type Run, runFor, timeInTurns } from './timing.ts';

/** A health check is a process each time, so it should cost little more than any process of the same Node. */
const GOAL = 3;

/** A cold start on an empty node, against `node -e 0`; the programs' own time, timed without us, is taken off. */
export function coldRows(executable: Executable, budgetMs: number): { rows: Row[]; notes: string[] } {
  const { launcher, node } = executable;
  runFor('nft', ['flush', 'ruleset']);
  const payloads = payloadsOf(launcher);
  const check = programsOf(executable, ['check']);
  const apply = programsOf(executable, ['apply'], payloads);
  const settled = programsOf(executable, ['apply']);
  const empty = (): void => void runFor('nft', ['flush', 'ruleset']);
  const applied = (): void => void runFor(launcher, ['apply']);
  const judging = [0, 1, 2];
  const runs = {
    node: { file: node, args: ['-e', '0'] },
    rules: { file: launcher, args: ['rules'] },
    check: { file: launcher, args: ['check'], done: judging, before: empty },
    'check programs': { ...check.run, before: empty },
    apply: { file: launcher, args: ['apply'], done: judging, before: empty },
    'apply programs': { ...apply.run, before: empty },
    settled: { file: launcher, args: ['apply'], done: judging, before: applied },
    'settled programs': { ...settled.run, before: applied },
  } satisfies Record<string, Run>;
  const timed = timeInTurns(runs, budgetMs);
  const row = (what: string, name: 'check' | 'apply' | 'settled'): Row => {
    const ours = timed[name].bestMs - timed[`${name} programs`].bestMs;
    return {
      what,
      baseline: msText(timed.node.bestMs),
      measured: `${msText(timed[name].bestMs)} − ${msText(timed[`${name} programs`].bestMs)} = ${msText(ours)}`,
      ratio: ratioText(ours / timed.node.bestMs),
      goal: `≤ ${GOAL} ×`,
      is: judged(ours <= GOAL * timed.node.bestMs, timed.node, timed[name], timed[`${name} programs`]),
    };
  };
  const rules: Row = {
    what: 'rules (starts no program)',
    baseline: msText(timed.node.bestMs),
    measured: msText(timed.rules.bestMs),
    ratio: ratioText(timed.rules.bestMs / timed.node.bestMs),
    goal: '',
    is: '',
  };
  empty();
  return {
    rows: [rules, row('check, empty node', 'check'), row('apply, writes all', 'apply'), row('apply, all is there', 'settled')],
    notes: [
      'baseline: `node -e 0` of dist/node. measured: the command less its programs, which a shell starts in the same order and side by side.',
      `check starts: ${check.argvs.join('; ')}`,
    ],
  };
}

/** What apply would hand to each restore, as it says itself. */
function payloadsOf(launcher: string): Payload[] {
  type Step = { readonly do: string; readonly family?: string; readonly backend?: string; readonly payload?: string };
  const printed = runFor(launcher, ['apply', '--dry-run', '--output', 'json'], '', [0, 1, 2]);
  // A crash of Node itself is exit 1 too, which from imds-guard means "open".
  if (printed === '') throw new NotMeasured('imds-guard apply --dry-run printed nothing');
  const { steps } = JSON.parse(printed) as { readonly steps: readonly Step[] };
  return steps.flatMap(({ family, backend, payload }) =>
    payload === undefined ? [] : [{ program: `${family === 'ipv4' ? 'iptables' : 'ip6tables'}-${backend}-restore`, text: payload }],
  );
}
