import { type BaseChain, type PacketClass, type TracedRule, describePacket, judge, intersectClass, pathsOf, pickOne, split, traceOne, type Packet, type Trace } from 'node-iptables';
import { OWN_CHAIN, OWN_TAG } from './desired.ts';
import { GUARD_TABLE, OWNED_GUARD_TABLE } from './guard-table.ts';
import { IMDS_BLOCK } from './addresses.ts';
import type { Observed } from './observed.ts';
import type { Answer } from './reasons.ts';
import type { RuleReport, StopReport } from './report.ts';
import { pathReport, ruleReport } from './rule-report.ts';
import type { Settings } from './settings.ts';
import { type Target, questionOf, targetsOf, trunkOf } from './targets.ts';
import { chainsOf, verdict } from './verdict.ts';

/** One packet's way through the node, for each target: the one that gets through, else a likely one and where it ends. */
export interface Explanation {
  readonly name: string;
  readonly answer: Answer;
  readonly packet: Packet;
  readonly path: readonly ExplainedStop[];
  readonly fate: 'passed' | 'dropped' | 'redirected';
  /** The rule that decided: that dropped or redirected the packet. None when it passed. */
  readonly by?: RuleReport;
  /** Whether some rule on the way could not be decided. */
  readonly doubtful: boolean;
}

export type ExplainedStop = StopReport & {
  /** Rules of this chain that would drop the packet and that it never reaches, because one above accepts it. */
  readonly shadowed: readonly (RuleReport & { readonly ours: boolean })[];
};

export function explain(observed: Observed, settings: Settings): Explanation[] {
  const report = verdict(observed, settings);
  return targetsOf(settings, observed.patterns, observed.families).flatMap((target) => {
    const answer = report.targets.find(({ name }) => name === target.name)?.answer ?? 'unknown';
    const explained = explainTarget(target, answer, observed, settings);
    return explained ? [explained] : [];
  });
}

/** Whether a rule is one that we write: in our table or chain, leading there, with our tag, or documented word for word. */
export function isOurs({ rule, chain, table, backend }: RuleReport): boolean {
  if ((backend === 'nft-native' && (table === GUARD_TABLE || table === OWNED_GUARD_TABLE)) || chain === OWN_CHAIN) return true;
  const withoutQuoted = rule.replace(/"(\\.|[^"\\])*"/g, '""');
  return OUR_TAG.test(withoutQuoted) || withoutQuoted.endsWith(`-j ${OWN_CHAIN}`) || DOCUMENTED.some((pattern) => pattern.test(rule));
}
const OUR_TAG = new RegExp(`--comment ${OWN_TAG}( |$)`);
const DOCUMENTED = Object.values(IMDS_BLOCK).map((block) => new RegExp(`^-A \\S+ -d ${block.replaceAll('.', '\\.')} -[io] \\S+ -j DROP$`));

function explainTarget(target: Target, answer: Answer, observed: Observed, settings: Settings): Explanation | undefined {
  const chains = chainsOf(observed, target.family);
  const patterns = [...settings.interfaces, ...observed.patterns.map(({ pattern }) => pattern)];
  const question = questionOf(target, 'NEW', observed.startMark, patterns, target.kind === 'branch' ? trunkOf(target) : undefined);
  const judgement = judge(chains, question);
  if (judgement.answer === 'open') return assemble(target.name, answer, judgement.packet, judgement.trace, chains, question.request);
  const path = pathsOf(chains, 'forwarded').paths[0] ?? [];
  const likely = intersectClass(question.request, question.likely);
  const packet = likely && pickOne(likely, question.picks);
  return packet && assemble(target.name, answer, describePacket(packet), traceOne(path, packet), chains, packet);
}

function assemble(name: string, answer: Answer, packet: Packet, trace: Trace, chains: readonly BaseChain[], packets: PacketClass): Explanation {
  const path = pathReport(trace).map((stop, at): ExplainedStop => ({ ...stop, shadowed: shadowedAt(trace.stops[at]!, chains, packets) }));
  const explained = { name, answer, packet, path, fate: trace.fate.is, doubtful: trace.doubtful };
  return trace.fate.is === 'passed' ? explained : { ...explained, by: ruleReport(trace.fate.by) };
}

function shadowedAt(stop: Trace['stops'][number], chains: readonly BaseChain[], packets: PacketClass): ExplainedStop['shadowed'] {
  const last = stop.taken.at(-1);
  if (last?.action.do !== 'accept' || last.rule.number === 0) return [];
  const base = chains.find(({ place, name, hook }) => place.backend === stop.place.backend && place.table === stop.place.table && name === stop.chain && hook === stop.hook);
  const entry = stop.taken.find(({ rule }) => rule.chain === stop.chain && !stop.taken.some((later) => later.rule.chain === stop.chain && later.rule.number > rule.number));
  const below = (base?.rules ?? []).filter((rule) => rule.number > (entry?.rule.number ?? 0));
  return below.filter((rule) => wouldDrop(rule, packets, base)).map((rule) => ({ ...ruleReport(rule), ours: isOurs(ruleReport(rule)) }));
}

function wouldDrop(rule: TracedRule, packets: PacketClass, base: BaseChain | undefined): boolean {
  const program = rule.programs[0];
  if (!program) return false;
  const toOwnChain = program.act.do === 'jump' && program.act.chain === OWN_CHAIN && base?.chainNamed(OWN_CHAIN) !== undefined;
  if (program.act.do !== 'drop' && !toOwnChain) return false;
  const taken: PacketClass[] = [];
  split({ ...packets, tracked: true }, program.test, rule, taken, []);
  return taken.length > 0;
}
