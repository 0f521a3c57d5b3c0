import { type BaseChain, type Doubt, type Family, type Judgement, type TracedChain, type TracedRule, baseChainsOf, judge, nftBaseChains } from 'node-iptables';
import { NEIGHBOURS } from './addresses.ts';
import { collateralOf } from './collateral.ts';
import { detours } from './detours.ts';
import type { Observed } from './observed.ts';
import type { Answer, Reason } from './reasons.ts';
import { worst } from './reasons.ts';
import { pathOf } from './path-chains.ts';
import type { Collateral, DoubtReport, Report, StateAnswers, TargetReport } from './report.ts';
import { placeText, ruleReport, witnessReport } from './rule-report.ts';
import type { Settings } from './settings.ts';
import { type State, type Target, anyStateQuestionOf, questionOf, targetsOf, trunkOf } from './targets.ts';
import { unlistedTables } from './unlisted-tables.ts';

/**
 * What the rules say: a proof that every packet drops, or a packet that gets through, or why neither can be said.
 * A function of what was observed; it looks at nothing itself.
 */
export function verdict(observed: Observed, settings: Settings): Report {
  const chains = new Map(observed.families.map((family) => [family, chainsOf(observed, family)]));
  const judged = targetsOf(settings, observed.patterns, observed.families).map((target) =>
    new TargetVerdict(target, chains.get(target.family)!, observed, settings).report(),
  );
  const targets = judged.map(({ report }) => report);
  const answer = worst(targets.map((target) => target.answer));
  const reason = targets.find((target) => target.answer === answer && target.reason !== 'EveryPacketDropped')?.reason ?? targets.find((target) => target.answer === answer)?.reason;
  const assumed = new Set([...observed.assumed, ...judged.flatMap((one) => one.assumed)]);
  const entered = judged.map((one) => one.entered);
  return {
    answer,
    reason: reason ?? 'NothingToJudge',
    targets,
    collateral: collateral(observed, settings, chains),
    assumed: [...assumed],
    ...(answer === 'blocked' && entered.every((chains) => chains !== undefined) ? { path: pathOf(entered.flat(), observed.nft) } : {}),
  };
}

/** Every base chain a packet of the family may meet, from both backends and from native tables. */
export function chainsOf(observed: Observed, family: Family): BaseChain[] {
  const native = observed.nft ? nftBaseChains(observed.nft, family, () => true) : unlistedTables(family);
  const listed = new Set((observed.nft?.tables ?? []).filter((table) => table.family === (family === 'ipv4' ? 'ip' : 'ip6')).map((table) => table.name));
  return [...observed.rulesets.filter((ruleset) => ruleset.family === family).flatMap((ruleset) => baseChainsOf(ruleset, listed)), ...native];
}

class TargetVerdict {
  private readonly target: Target;
  private readonly chains: readonly BaseChain[];
  private readonly observed: Observed;
  private readonly podPatterns: readonly string[];
  private readonly assumed: string[] = [];
  private judgedRouted: Judgement | undefined;
  constructor(target: Target, chains: readonly BaseChain[], observed: Observed, settings: Settings) {
    this.target = target;
    this.chains = chains;
    this.observed = observed;
    this.podPatterns = [...settings.interfaces, ...observed.patterns.map(({ pattern }) => pattern)];
  }

  report(): { report: TargetReport; assumed: readonly string[]; entered: readonly TracedChain[] | undefined } {
    const judgements = this.judgements();
    const states: StateAnswers = {
      NEW: judgements.NEW.answer,
      ESTABLISHED: judgements.ESTABLISHED.answer,
      RELATED: judgements.RELATED.answer,
      INVALID: judgements.INVALID.answer,
      UNTRACKED: judgements.UNTRACKED.answer,
    };
    const report = this.asReport(judgements.NEW, states);
    const failures = this.observed.failures.filter(({ family }) => family === 'both' || family === this.target.family);
    return { report: failures.length > 0 ? withoutLooking(report, failures) : this.bypassed(this.detoured(report)), assumed: failures.length > 0 ? [] : this.assumed, entered: this.enteredBy(Object.values(judgements)) };
  }

  private judgements(): Readonly<Record<State, Judgement>> {
    const all = (out?: Parameters<typeof questionOf>[4]): Readonly<Record<State, Judgement>> => {
      const one = (state: State): Judgement => judge(this.chains, questionOf(this.target, state, this.observed.startMark, this.podPatterns, out));
      const every = judge(this.chains, anyStateQuestionOf(this.target, this.observed.startMark, this.podPatterns, out));
      const later = (state: State): Judgement => (every.answer === 'blocked' ? every : one(state));
      return { NEW: one('NEW'), ESTABLISHED: later('ESTABLISHED'), RELATED: later('RELATED'), INVALID: later('INVALID'), UNTRACKED: one('UNTRACKED') };
    };
    const anyWay = all();
    if (this.target.kind !== 'branch' || (anyWay.NEW.answer === 'blocked' && anyWay.ESTABLISHED.answer === 'blocked')) return anyWay;
    this.assumed.push(`packets of ${this.target.interface} leave by an interface of the same pattern, as in the VPC CNI's strict mode`);
    return all(trunkOf(this.target));
  }

  private asReport(judgement: Judgement, states: StateAnswers): TargetReport {
    const { name, family, interface: pattern } = this.target;
    const base = { name, family, interface: pattern, from: this.target.from, established: states.ESTABLISHED, states };
    switch (judgement.answer) {
      case 'blocked':
        // Tables that could not be listed may untrack a packet; then the drop has to hold for untracked ones too.
        if (!this.observed.nft && states.UNTRACKED !== 'blocked') {
          return { ...base, answer: 'unknown', reason: 'CannotRead', doubts: [{ why: 'native nftables tables were not read: they may untrack packets, and untracked ones would pass' }] };
        }
        return {
          ...base,
          answer: 'blocked',
          reason: states.ESTABLISHED === 'open' ? 'LiveConnectionsPass' : 'EveryPacketDropped',
          proof: judgement.proof.map(ruleReport),
        };
      case 'open':
        return { ...base, answer: 'open', reason: 'PacketPasses', witness: witnessReport(judgement.packet, judgement.trace) };
      case 'unknown':
        return { ...base, answer: 'unknown', reason: reasonOf(judgement), doubts: doubtReports(judgement) };
    }
  }

  /** Undefined where not every packet in every state was followed to its end. */
  private enteredBy(judgements: readonly Judgement[]): readonly TracedChain[] | undefined {
    if (!judgements.every(isFollowed)) return undefined;
    const followed = [...judgements, this.routed()];
    return followed.every(isFollowed) ? followed.flatMap(({ entered }) => entered) : undefined;
  }

  /** Packets that came to be for IMDS before routing, by whatever rule and with whatever mark. */
  private routed(): Judgement {
    const routed = this.chains.filter(({ hook }) => hook !== 'prerouting');
    return (this.judgedRouted ??= judge(routed, questionOf(this.target, 'NEW', undefined, this.podPatterns)));
  }

  /** Where another destination is translated into IMDS, the drop has to stand after that: routed packets must meet it. */
  private detoured(report: TargetReport): TargetReport {
    if (report.answer !== 'blocked') return report;
    const ways = detours(this.observed, this.target.family);
    if (ways.length === 0) return report;
    if (this.routed().answer === 'blocked') return report;
    const { name, family, interface: pattern, from, states, established } = report;
    const doubts = ways.map((rule): DoubtReport => ({ why: `translates another destination into IMDS: ${rule}` }));
    return { name, family, interface: pattern, from, states, established, answer: 'unknown', reason: 'ReachedByDetour', doubts };
  }

  /** Blocked by every rule is not blocked where something may carry packets past the rules. */
  private bypassed(report: TargetReport): TargetReport {
    if (this.observed.bypasses.length === 0 || report.answer === 'open') return report;
    const doubts: DoubtReport[] = this.observed.bypasses.map((why) => ({ why }));
    const [known, reason] = report.answer === 'unknown' ? [report.doubts, report.reason] : [[], 'MayBypassNetfilter' as const];
    const { name, family, interface: pattern, from, states } = report;
    const established = states.ESTABLISHED === 'open' ? 'open' : 'unknown';
    return { name, family, interface: pattern, from, states, established, answer: 'unknown', reason, doubts: [...doubts, ...known] };
  }
}

const isFollowed = (judgement: Judgement): judgement is Extract<Judgement, { answer: 'blocked' }> & { readonly entered: readonly TracedChain[] } =>
  judgement.answer === 'blocked' && judgement.entered !== undefined;

function withoutLooking(report: TargetReport, failures: Observed['failures']): TargetReport {
  const { name, family, interface: pattern, from } = report;
  const unknown: StateAnswers = { NEW: 'unknown', ESTABLISHED: 'unknown', RELATED: 'unknown', INVALID: 'unknown', UNTRACKED: 'unknown' };
  const doubts = failures.map(({ what, message }): DoubtReport => ({ why: message.startsWith(`${what}:`) ? message : `${what}: ${message}` }));
  return { name, family, interface: pattern, from, states: unknown, established: 'unknown', answer: 'unknown', reason: failures[0]!.reason, doubts };
}

type Undecided = Extract<Judgement, { answer: 'unknown' }>;

function reasonOf(judgement: Undecided): Reason {
  switch (judgement.because) {
    case 'redirected':
      return 'AnsweredElsewhere';
    case 'later':
      return 'OnlyLaterPacketsDropped';
    case 'unlikely':
      return 'OnlyUnlikelyPass';
    case 'order':
      return 'OrderUnknown';
    case 'doubt': {
      const kinds = new Set(judgement.doubts.map((doubt) => doubt.kind));
      if (kinds.has('unread')) return 'CannotRead';
      if (kinds.has('state')) return 'DependsOnState';
      return kinds.has('size') ? 'TooLarge' : 'OrderUnknown';
    }
  }
}

/** More than this nobody reads at 3 a.m.; the first are the first on the packet's way. */
const MOST_DOUBTS = 20;

function doubtReports(judgement: Undecided): DoubtReport[] {
  const fromDoubts = judgement.doubts.map((doubt): DoubtReport => {
    const rule = ruleOf(doubt);
    return rule ? { why: doubt.why, rule: ruleReport(rule) } : { why: doubt.why };
  });
  const fromRules = judgement.rules.map((rule): DoubtReport => ({ why: whyOf(judgement, rule), rule: ruleReport(rule) }));
  // Several classes of packets meet the same rule; a reader wants to see it once.
  const all = [...new Map([...fromDoubts, ...fromRules].map((doubt) => [JSON.stringify(doubt), doubt])).values()];
  return all.length > 0 ? all.slice(0, MOST_DOUBTS) : [{ why: 'no likely packet was found that passes' }];
}

const ruleOf = (doubt: Doubt): TracedRule | undefined => doubt.at as TracedRule | undefined;

function whyOf(judgement: Undecided, rule: TracedRule): string {
  switch (judgement.because) {
    case 'redirected':
      return 'sends the packet to somebody else';
    case 'later':
      return 'drops later packets of the connection only';
    default:
      return `has a part in it (${placeText(rule.place)})`;
  }
}

function collateral(observed: Observed, settings: Settings, chains: ReadonlyMap<Family, readonly BaseChain[]>): Collateral[] {
  const pod = targetsOf(settings, [], ['ipv4'])[0]?.interface ?? 'eni+';
  return NEIGHBOURS.filter(({ family }) => observed.families.includes(family)).map((neighbour) => {
    const failed = observed.failures.some(({ family }) => family === 'both' || family === neighbour.family);
    const known = chains.get(neighbour.family) ?? [];
    return failed ? { ...neighbourOf(neighbour), answer: 'unknown' as Answer } : collateralOf(neighbour, pod, known, observed.startMark);
  });
}

const neighbourOf = ({ family, address, what, protocol, port }: (typeof NEIGHBOURS)[number]) => ({ family, address, what, protocol, port });
