import type { Executable } from './executable.ts';
import { programsOf } from './programs.ts';
import { kube } from './shapes.ts';
import { type Row, judged, msText, ratioText } from './table.ts';
import { type Run, runFor, timeInTurns } from './timing.ts';

export type Backend = 'nft' | 'legacy';

/** The namespace has rules of one backend at a time: legacy tables, once there, stay until it ends, so nft goes first. */
export function liveRow(executable: Executable, backend: Backend, rules: number, writing: Backend, budgetMs: number): Row {
  const { launcher } = executable;
  runFor('nft', ['flush', 'ruleset']);
  runFor(`iptables-${backend}-restore`, [], kube(rules));
  // Exit 0 is "blocked": what is timed is a proof over the whole table, not an early find.
  runFor(launcher, ['apply', '--backend', writing]);
  const timed = timeInTurns(
    {
      save: { file: `iptables-${backend}-save`, args: [] },
      check: { file: launcher, args: ['check'] },
      programs: programsOf(executable, ['check']).run,
    } satisfies Record<string, Run>,
    budgetMs,
  );
  const { save, check, programs } = timed;
  return {
    what: `check, ${backend}, ${rules.toLocaleString('en')} rules${writing === backend ? '' : `, ours in ${writing}`}`,
    baseline: msText(save.bestMs),
    measured: `${msText(check.bestMs)} (its programs ${msText(programs.bestMs)})`,
    ratio: ratioText(check.bestMs / save.bestMs),
    ...(rules < LARGE ? { goal: '', is: '' } : goalOf(backend, check.bestMs, save.bestMs, judgedBy(timed))),
  };
}

/** The size that the goals are about. */
const LARGE = 50_000;

function goalOf(backend: Backend, checkMs: number, saveMs: number, judge: (within: boolean) => Row['is']): Pick<Row, 'goal' | 'is'> {
  if (backend === 'nft') return { goal: '≤ 1.5 ×', is: judge(checkMs <= 1.5 * saveMs) };
  return { goal: `≤ ${msText(saveMs)} + 350 ms`, is: judge(checkMs <= saveMs + 350) };
}

const judgedBy = ({ save, check }: { save: Parameters<typeof judged>[1]; check: Parameters<typeof judged>[1] }) => (within: boolean): Row['is'] => judged(within, save, check);

/** Leaves the namespace without rules, as far as that can be. */
export function flushAll(): void {
  runFor('nft', ['flush', 'ruleset']);
  runFor('iptables-legacy-restore', [], '*filter\nCOMMIT\n*mangle\nCOMMIT\n');
}
