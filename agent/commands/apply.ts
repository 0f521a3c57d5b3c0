import { type Backend, type Family, type Firewall, IptablesError } from 'node-iptables';
import { UsageError } from '../config.ts';
import { desired } from '../core/desired.ts';
import { GUARD_TABLE } from '../core/guard-table.ts';
import type { Observed } from '../core/observed.ts';
import { type Step, backendFor, hiddenTables, isWatched, needsReclaim, plan, unreadFamilies, unwrittenFamilies } from '../core/plan.ts';
import { stepsText } from '../core/text-plan.ts';
import { verdict } from '../core/verdict.ts';
import { printed } from './check.ts';
import { type Command, type Context, EXIT, json } from './context.ts';

/** Writes what is missing, reads again, and exits on what was read. */
export const apply: Command = async (context) => {
  const { settings } = context;
  const before = await context.observe();
  const wanted = desired(settings, before.patterns, before.families);
  if (wanted.guard === 'observe' && before.withoutNft !== undefined) {
    throw new UsageError(`--mode observe needs nft, for it is a table of nftables that counts, and ${before.withoutNft}`);
  }
  if (wanted.guard === 'reject' && before.withoutNft !== undefined) {
    throw new UsageError(`--action reject needs nft, for iptables refuses REJECT in the mangle table, and ${before.withoutNft}: install nftables, or use --action drop`);
  }
  const backend = backendFor(before, settings.backend);
  const first = plan(wanted, before, backend);
  if (context.values['dry-run'] === true) return finish(context, before, { dryRun: true, steps: first, problems: [], left: first, backend, unread: unreadFamilies(before, backend) });

  const watched = settings.mode === 'observe' && settings.guard !== 'watched' && first.length > 0 && isWatched(before);
  if (watched) return finish(context, before, { dryRun: false, steps: [], problems: [WATCHED], left: first, backend, unread: unreadFamilies(before, backend) });

  const firewall = await context.firewall();
  const carried = await (settings.mode === 'observe' ? carryOutInOrder : carryOut)(firewall, first);
  const problems = [...unwrittenFamilies(before, backend), ...(backend === 'nft' ? hiddenTables(before) : []), ...carried.problems];
  let now = first.length > 0 ? await context.observe() : before;
  // What was refused a moment ago would be refused again.
  const tried = new Set(first.map((step) => JSON.stringify(step)));
  const again = settings.mode === 'enforce' && needsReclaim(verdict(now, settings)) ? plan(wanted, now, backend, true).filter((step) => !tried.has(JSON.stringify(step))) : [];
  const steps = [...carried.steps];
  if (again.length > 0) {
    const { steps: reclaimed, problems: more } = await carryOut(firewall, again);
    steps.push(...reclaimed);
    problems.push(...more);
    now = await context.observe();
  }
  return finish(context, now, { dryRun: false, steps, problems, left: plan(wanted, now, backend), backend, unread: unreadFamilies(now, backend) });
};

const WATCHED = 'imds-guard watch runs on this node, and would put back what is taken away: set its mode. Nothing was changed';

export interface Carried {
  /** As they were sent: where something was refused, what was run in its place. */
  readonly steps: readonly Step[];
  readonly problems: readonly string[];
}

/**
 * Each step by itself: a layer that cannot be written does not keep the others from it. The families wait for each other
 * no longer than the kernel makes them.
 */
export async function carryOut(firewall: Firewall, steps: readonly Step[]): Promise<Carried> {
  const lanes = (['ipv4', 'ipv6'] as const).map((family) => steps.filter((step) => step.do === 'restore' && step.family === family));
  const restored = await Promise.all(lanes.map((lane) => inTurn(firewall, lane)));
  return together([...restored, await inTurn(firewall, steps.filter((step) => step.do === 'nft'))]);
}

/** Where what comes later in a ruleset tells that the earlier is ours: after a failure the rest of that ruleset stays. */
export async function carryOutInOrder(firewall: Firewall, steps: readonly Step[]): Promise<Carried> {
  const carried = new Map<string, Carried>();
  for (const step of steps) {
    const ruleset = step.do === 'restore' ? `${step.family} ${step.backend}` : step.do;
    const before = carried.get(ruleset);
    if (before?.problems.length) continue;
    carried.set(ruleset, together([...(before ? [before] : []), await carryOut(firewall, [step])]));
  }
  return together([...carried.values()]);
}

const together = (parts: readonly Carried[]): Carried => ({ steps: parts.flatMap(({ steps }) => steps), problems: parts.flatMap(({ problems }) => problems) });

async function inTurn(firewall: Firewall, steps: readonly Step[]): Promise<Carried> {
  const [carried, problems]: [Step[], string[]] = [[], []];
  for (const step of steps) {
    try {
      carried.push(await send(firewall, step));
    } catch (error) {
      if (!(error instanceof IptablesError)) throw error;
      carried.push(step);
      problems.push(error.message);
    }
  }
  return { steps: carried, problems };
}

/** @returns what was sent */
async function send(firewall: Firewall, step: Step): Promise<Step> {
  if (step.do === 'restore') {
    await firewall.restore(step.family, step.backend, step.payload);
    return step;
  }
  const { otherwise, ...sent } = step;
  try {
    await firewall.nftRun(step.script);
    return sent;
  } catch (error) {
    if (otherwise === undefined || !(error instanceof IptablesError) || error.kind === 'not-permitted') throw error;
    await firewall.nftRun(otherwise);
    return { ...sent, script: otherwise, because: [...step.because, `what looks into packets was refused (${error.message})`] };
  }
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
  const { mode } = context.settings;
  if (context.output === 'json') context.print(json({ mode, ...done, ...report }));
  else if (context.output !== 'text') context.print(printed(report, context.output));
  else context.print(`${stepsText(done.steps, done.problems, done.dryRun, NOTHING[mode])}${mode === 'observe' ? 'mode observe: nothing is blocked, who asks for IMDS is only counted\n' : ''}${printed(report, 'text')}`);
  return EXIT[report.answer];
}

const NOTHING = { enforce: 'nothing to write: every rule is in place', observe: 'nothing to write: no rule of ours blocks, and the table that counts is in place' } as const;

function missingGuard(observed: Observed, { guard }: Context['settings']): string[] {
  const why = observed.withoutNft ?? (observed.nft ? undefined : 'it could not list what is there');
  return why !== undefined && (guard === 'auto' || guard === 'plain') ? [`table inet ${GUARD_TABLE} was not written: it takes nft, and ${why}`] : [];
}
