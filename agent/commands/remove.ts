import { hiddenTables, isWatched, removal } from '../core/plan.ts';
import { stepsText } from '../core/text-plan.ts';
import { carryOutInOrder } from './apply.ts';
import { type Command, EXIT, json } from './context.ts';

/** Takes away exactly ours, whichever layout and backend they were written with. Exit 0 when nothing of ours is left. */
export const remove: Command = async (context) => {
  const { output, print } = context;
  const dryRun = context.values['dry-run'] === true;
  const daemon = await context.daemonRuns();
  const before = await context.observe();
  // Both: not every daemon has a table that it owns, nor the lock.
  const watched = daemon !== undefined || isWatched(before);
  const steps = watched ? [] : removal(before);
  const problems = [...(watched ? [watchedBy(daemon?.pid)] : []), ...before.failures.map(({ what, message }) => `${what}: ${message}`), ...hiddenTables(before)];
  if (!dryRun && steps.length > 0) problems.push(...(await carryOutInOrder(await context.firewall(), steps)).problems);
  const left = watched ? removal(before) : dryRun || steps.length === 0 ? [] : removal(await context.observe());
  if (output === 'json') print(json({ dryRun, steps, problems, left }));
  else print(`${stepsText(steps, problems, dryRun, watched ? 'nothing was taken away' : 'nothing to take away')}${left.length > 0 ? 'something of ours is still there; run remove again\n' : dryRun || watched ? '' : 'nothing of imds-guard is left\n'}`);
  return problems.length > 0 || left.length > 0 ? EXIT.unknown : 0;
};

/** A table whose owner is no daemon belongs to a socket that systemd keeps for one (FileDescriptorStorePreserve). */
const watchedBy = (pid: number | undefined): string =>
  pid === undefined
    ? 'the guard table belongs to a socket of imds-guard watch: of one that runs, or that systemd keeps for it. Stop it and let go of that (systemctl disable --now imds-guard; systemctl clean --what=fdstore imds-guard); nothing was changed'
    : `imds-guard watch runs on this node: process ${pid} would put back what is taken away. Stop it first; nothing was changed`;
