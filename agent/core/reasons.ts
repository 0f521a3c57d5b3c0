/**
 * Every reason an answer can have: one closed list, CamelCase as Kubernetes conditions want it. Text for people beside
 * it; agent/commands/reasons.md is made from this table (`make reasons`), and a test says when it is stale.
 */
export const REASONS = {
  EveryPacketDropped: { answer: 'blocked', text: 'every packet of every pod to IMDS is dropped: proved from the rules' },
  LiveConnectionsPass: {
    answer: 'blocked',
    text: 'new connections are blocked, but a connection that was open before the rules goes on; run `imds-guard apply`',
  },
  PacketPasses: { answer: 'open', text: 'a packet from a pod gets to IMDS: the witness shows which and how' },
  CannotRead: { answer: 'unknown', text: 'the answer hangs on rules that cannot be read; they are named in the doubts' },
  DependsOnState: {
    answer: 'unknown',
    text: 'the answer hangs on rules that depend on more than the ruleset (a rate, an ipset, a clock); they are named in the doubts',
  },
  TooLarge: { answer: 'unknown', text: 'the ruleset has more different paths than can be followed' },
  OrderUnknown: { answer: 'unknown', text: 'it depends on which of two chains of equal priority runs first, and no listing shows that' },
  AnsweredElsewhere: {
    answer: 'unknown',
    text: 'a rule sends the packets to somebody else (kube2iam, a proxy): what that one does with them, rules cannot show',
  },
  OnlyLaterPacketsDropped: {
    answer: 'unknown',
    text: 'the first packet of a connection passes and only later ones are dropped; that is no protection against patience',
  },
  OnlyUnlikelyPass: {
    answer: 'unknown',
    text: 'packets would pass only from sources or through interfaces that pods are not known to have',
  },
  ReachedByDetour: {
    answer: 'unknown',
    text: 'packets to another address are translated to IMDS after the rules that drop; put the drop in a forward chain (`imds-guard apply`)',
  },
  MayBypassNetfilter: { answer: 'unknown', text: 'something on the node may carry packets past every rule; it is named in the doubts' },
  EveryProbeDied: { answer: 'blocked', text: 'packets were sent to IMDS from pod networks, and the node was seen to keep each from it; the node itself got an answer' },
  PodReachedImds: { answer: 'open', text: 'a packet sent from a pod network got to IMDS and was answered' },
  OnlyHopLimit: {
    answer: 'unknown',
    text: "pods reach IMDS; only the hop limit keeps the token's answer from them. A token fetched on the node works in a pod, and so does version 1 where it is on",
  },
  OnlyImdsRefuses: { answer: 'unknown', text: 'pods reach IMDS, and it refuses them for now (401, 403, 429, 503): no rule of the node keeps them from it' },
  ControlFailed: { answer: 'unknown', text: 'IMDS does not answer the node itself either, so that silence towards pods tells nothing' },
  ProbeInconclusive: { answer: 'unknown', text: 'packets were sent, and what became of them could not be told; the message says of which' },
  NoPodToProbe: { answer: 'unknown', text: 'no pod runs on this node from whose network packets could be sent' },
  EvidenceDisagrees: {
    answer: 'open or unknown',
    text: 'what the rules say and what packets did are not the same; both are shown. `open` where a pod got through, whatever the rules say',
  },
  NothingToJudge: { answer: 'unknown', text: 'no ruleset was given or found that could be judged' },
  NotPermitted: { answer: 'unknown', text: 'the rules could not be read: run as root, or with CAP_NET_ADMIN' },
  NotInstalled: { answer: 'unknown', text: 'the rules could not be read: a program is missing; the message names it' },
  Busy: { answer: 'unknown', text: 'the rules could not be read: another process holds the xtables lock' },
  TimedOut: { answer: 'unknown', text: 'the rules could not be read in time' },
  NotLookedYet: { answer: 'unknown', text: 'nothing was looked at yet: the agent has just started' },
  ChangedSince: { answer: 'unknown', text: 'something on the way of a packet has changed since the last look, and the next has not ended yet' },
  CouldNotLook: { answer: 'unknown', text: 'the rules could not be read, for the cause in the message' },
} as const satisfies Readonly<Record<string, { answer: Answer | 'open or unknown'; text: string }>>;

export type Answer = 'blocked' | 'open' | 'unknown';
export type Reason = keyof typeof REASONS;

/** The one that matters more: open, then unknown, then blocked. */
export const worst = (answers: readonly Answer[]): Answer =>
  answers.includes('open') ? 'open' : answers.includes('unknown') || answers.length === 0 ? 'unknown' : 'blocked';
