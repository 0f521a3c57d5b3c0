import { hasName, nameSet } from 'node-iptables';
import type { Answer, Reason } from '../reasons.ts';
import type { Report, TargetReport } from '../report.ts';
import type { Basis, JoinedReport, Observation } from './joined-report.ts';
import type { NetworkProbe } from './report.ts';
import { answeringFamilies, isKeptOut, networkName, notEntered } from './summary.ts';

/**
 * One answer from the rules and from packets (DESIGN.md, "Joining"). Packets prove what rules cannot tell, and refute what they
 * seem to prove; a packet that died proves nothing where the rules themselves say that others pass.
 */
export function join(report: Report, observed: Observation): JoinedReport {
  const { answer, reason } = report;
  const alone: Judged = { answer, reason, basis: answer === 'unknown' ? [] : ['rules'], message: '' };
  const judged = observed.state === 'tried' ? JOIN[answer](report, observed, alone) : alone;
  return { ...report, ...judged, installed: { answer, reason }, observed };
}

interface Judged {
  readonly answer: Answer;
  readonly reason: Reason;
  readonly basis: Basis;
  readonly message: string;
}
type Tried = Extract<Observation, { state: 'tried' }>;

const JOIN: Readonly<Record<Answer, (report: Report, tried: Tried, alone: Judged) => Judged>> = { blocked: rulesBlock, open: rulesLetThrough, unknown: rulesDoNotTell };

function rulesBlock(report: Report, tried: Tried, alone: Judged): Judged {
  const reached = tried.networks.find((network) => network.reached);
  if (reached) return { answer: 'open', reason: 'EvidenceDisagrees', basis: ['packets'], message: `the rules say blocked (${report.reason}), but ${networkName(reached)} got through: ${passed(reached)}` };
  // In the pod it may be a mesh, which meets the same rules with what it sends itself.
  const answered = tried.networks.find((network) => [network.v1, network.v2].some(({ class: kind, by }) => kind === 'open' || (kind === 'proxied' && by === 'node')));
  if (answered) return { answer: 'unknown', reason: 'EvidenceDisagrees', basis: [], message: `the rules say blocked (${report.reason}), but ${networkName(answered)} is answered: ${passed(answered)}` };
  return tried.answer === 'blocked' ? { ...alone, basis: ['rules', 'packets'] } : alone;
}

function rulesLetThrough(report: Report, tried: Tried, alone: Judged): Judged {
  if (tried.networks.some((network) => network.reached)) return { ...alone, basis: ['rules', 'packets'] };
  const open = report.targets.filter(({ answer }) => answer === 'open');
  // Of a kind that no pod on this node is of, packets tell nothing.
  const refuted = open.every((target) => diedOf(target, tried));
  if (!refuted || open.length === 0) return alone;
  return { answer: 'unknown', reason: 'EvidenceDisagrees', basis: [], message: `the rules let a packet through (${open.map(({ name }) => name).join(', ')}), but every one that was sent died: something else drops them (a policy in BPF, the hop limit); nothing here keeps it so` };
}

/** What rules left open because they could not be read at all or do not meet every packet, packets can settle. */
const SETTLED_BY_PACKETS: ReadonlySet<Reason> = new Set(['MayBypassNetfilter', 'CannotRead', 'TooLarge', 'OrderUnknown', 'NotPermitted', 'NotInstalled', 'Busy', 'TimedOut', 'CouldNotLook', 'NothingToJudge']);

function rulesDoNotTell(report: Report, tried: Tried, alone: Judged): Judged {
  if (tried.answer === 'open') return { answer: 'open', reason: tried.reason, basis: ['packets'], message: tried.message };
  if (tried.answer !== 'blocked') return { ...alone, message: tried.message };
  const unsettled = report.targets.find((target) => target.answer === 'unknown' && !isSettled(target));
  if (unsettled || !SETTLED_BY_PACKETS.has(report.reason)) return { ...alone, message: `every packet that was sent died, but others may pass: ${unsettled?.name ?? ''} ${unsettled?.reason ?? report.reason}`.replace('  ', ' ') };
  const blind = [...tried.uncovered, ...notEntered(tried.skipped).map(({ networkNamespace }) => networkNamespace), ...otherWays(report, tried)];
  if (blind.length > 0) return { ...alone, message: `every packet that was sent died, but not from everywhere: ${blind.slice(0, 5).join(', ')} could not be tried` };
  // What carries packets past the rules may do so for one pod alone.
  if (isSample(tried)) return { ...alone, message: `every packet that was sent died, but only ${networksOf(tried)} of ${tried.found} pod networks were tried` };
  return { answer: 'blocked', reason: 'EveryProbeDied', basis: ['packets'], message: `the rules do not tell (${report.reason}${firstDoubt(report)}), so this is true of the pods that are here now: ${tried.message}` };
}

/** Whether more packets would tell more: some of each kind died, the rules do not tell, and there are other pods. */
export const wantsEvery = (report: Report, observed: Observation): boolean =>
  report.answer === 'unknown' && SETTLED_BY_PACKETS.has(report.reason) && observed.state === 'tried' && observed.answer === 'blocked' && isSample(observed);

/** What packets may settle or refute: one that is another is about another node than the one that they met. */
export const claimOf = ({ answer, reason, targets }: Report): string =>
  JSON.stringify([answer, reason, targets.map((target) => [target.name, target.answer, target.reason, target.answer === 'unknown' ? target.doubts.map(({ why }) => why) : []])]);

/** The pod chooses by which of its ways it sends, and may choose by port: ours went by the one that is blocked. */
const otherWays = ({ targets }: Report, tried: Tried): string[] => {
  const unknown = targets.filter(({ answer }) => answer === 'unknown').map((target) => ({ family: target.family, pattern: nameSet(target.interface) }));
  const some = tried.networks.filter(({ class: kind }) => kind !== 'no-route');
  return some.flatMap((network) => network.otherWays.filter((way) => unknown.some(({ family, pattern }) => family === network.family && hasName(pattern, way))).map((way) => `${way} of ${networkName(network)}`));
};

/** A rule that is named in a doubt knows packets apart: those that it lets pass may be others than were sent. */
const isSettled = (target: Extract<TargetReport, { answer: 'unknown' }>): boolean => SETTLED_BY_PACKETS.has(target.reason) && target.doubts.every(({ rule }) => rule === undefined);

const networksOf = ({ networks }: Tried): number => new Set(networks.map(({ networkNamespace }) => networkNamespace)).size;
const isSample = (tried: Tried): boolean => networksOf(tried) < tried.found;

const diedOf = (target: TargetReport, tried: Tried): boolean => {
  const pattern = nameSet(target.interface);
  const of = tried.networks.filter(({ family, interfaces }) => family === target.family && interfaces.some((name) => hasName(pattern, name)));
  return answeringFamilies(tried.control).includes(target.family) && of.length > 0 && of.every(isKeptOut);
};

const firstDoubt = ({ targets }: Report): string => {
  const doubts = targets.flatMap((target) => (target.answer === 'unknown' ? target.doubts : []));
  return doubts[0] ? `: ${doubts[0].why}` : '';
};

const passed = ({ v1, v2 }: NetworkProbe): string => (v2.class === 'open' || v2.connected ? v2.because : v1.because);
