import { type Backend, type Family, type Firewall, IptablesError } from 'node-iptables';
import { UsageError } from '../config.ts';
import { desired } from '../core/desired.ts';
import { GUARD_TABLE } from '../core/guard-table.ts';
import type { Observed } from '../core/observed.ts';
import { type Step, backendFor, hiddenTables, needsReclaim, plan, unreadFamilies, unwrittenFamilies } from '../core/plan.ts';
import { stepsText } from '../core/text-plan.ts';
import { verdict } from '../core/verdict.ts';
import { printed } from './check.ts';
import { type Command, type Context, EXIT, json } from './context.ts';

/** Writes what is missing, reads again, and exits on what was read. */
export const apply: Command = async (context) => {
  const { settings } = context;
  const before = await context.observe();
  const wanted = desired(settings, before.patterns, before.families);
  if (wanted.guard === 'reject' && before.withoutNft !== undefined) {
    throw new UsageError(`--action reject needs nft, for iptables refuses REJECT in the mangle table, and ${before.withoutNft}: install nftables, or use --action drop`);
  }
  const backend = backendFor(before, settings.backend);
  const first = plan(wanted, before, backend);
  if (context.values['dry-run'] === true) return finish(context, before, { dryRun: true, steps: first, problems: [], left: first, backend, unread: unreadFamilies(before, backend) });

  const firewall = await context.firewall();
  const problems = [...unwrittenFamilies(before, backend), ...(backend === 'nft' ? hiddenTables(before) : []), ...(await carryOut(firewall, first))];
  let now = first.length > 0 ? await context.observe() : before;
  // What was refused a moment ago would be refused again.
  const tried = new Set(first.map((step) => JSON.stringify(step)));
  const again = needsReclaim(verdict(now, settings)) ? plan(wanted, now, backend, true).filter((step) => !tried.has(JSON.stringify(step))) : [];
  if (again.length > 0) {
    problems.push(...(await carryOut(firewall, again)));
    now = await context.observe();
  }
  return finish(context, now, { dryRun: false, steps: [...first, ...again], problems, left: plan(wanted, now, backend), backend, unread: unreadFamilies(now, backend) });
};

/**
 * Each step by itself: a layer that cannot be written does not keep the others from it. The families wait for each other
 * no longer than the kernel makes them.
 */
export async function carryOut(firewall: Firewall, steps: readonly Step[]): Promise<string[]> {
  const lanes = (['ipv4', 'ipv6'] as const).map((family) => steps.filter((step) => step.do === 'restore' && step.family === family));
  const problems = (await Promise.all(lanes.map((lane) => inTurn(firewall, lane)))).flat();
  return [...problems, ...(await inTurn(firewall, steps.filter((step) => step.do === 'nft')))];
}

async function inTurn(firewall: Firewall, steps: readonly Step[]): Promise<string[]> {
  const problems: string[] = [];
  for (const step of steps) {
    try {
      if (step.do === 'restore') await firewall.restore(step.family, step.backend, step.payload);
      else await firewall.nftRun(step.script);
    } catch (error) {
      if (!(error instanceof IptablesError)) throw error;
      problems.push(error.message);
    }
  }
  return problems;
}

interface Done {
  readonly dryRun: boolean;
  readonly steps: readonly Step[];
  readonly problems: readonly string[];
  /** What is still to be done, by what was read afterwards. */
  readonly left: readonly Step[];
  /** The iptables that is written to. */
  readonly backend: Backend;
  /** Families of it that could not be read: of those `left` knows nothing. */
  readonly unread: readonly Family[];
}

function finish(context: Context, observed: Observed, done: Done): number {
  const judged = verdict(observed, context.settings);
  const report = { ...judged, assumed: [...judged.assumed, ...missingGuard(observed, context.settings)] };
  if (context.output === 'json') context.print(json({ ...done, ...report }));
  else if (context.output === 'npd') context.print(printed(report, 'npd'));
  else context.print(`${stepsText(done.steps, done.problems, done.dryRun)}${printed(report, 'text')}`);
  return EXIT[report.answer];
}

function missingGuard(observed: Observed, { guard }: Context['settings']): string[] {
  const why = observed.withoutNft ?? (observed.nft ? undefined : 'it could not list what is there');
  return why !== undefined && (guard === 'auto' || guard === 'plain') ? [`table inet ${GUARD_TABLE} was not written: it takes nft, and ${why}`] : [];
}
