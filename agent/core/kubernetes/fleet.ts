import type { Answer } from '../reasons.ts';
import { CONDITION_TYPE, bootIdOf } from './condition.ts';
import { type NodeObject, standing } from './node.ts';
import { STALE_AFTER_MS } from './retry.ts';

/** What one node's condition tells now. */
export interface FleetNode {
  readonly name: string;
  readonly answer: Answer;
  /** Of the condition, or why it counts for nothing: `NoCondition`, `StaleHeartbeat`, `OtherBoot`. */
  readonly reason: string;
  readonly message: string;
  /** Since the last heartbeat; undefined where there is no condition. */
  readonly ageSeconds?: number;
}

export interface Fleet {
  /** The worst of all nodes. */
  readonly answer: Answer;
  readonly totals: Readonly<Record<Answer, number>>;
  /** Nodes that have no IMDS to keep pods from, or none of ours to do it: Windows, Fargate. */
  readonly leftOut: number;
  readonly nodes: readonly FleetNode[];
}

/**
 * A condition is what somebody wrote once. One that is of another boot, or that nobody has kept for ten minutes, is none: the rules
 * that it was about may be gone with that boot.
 *
 * @param nowMs on the wall clock, which nodes and we are taken to share within a minute or so
 */
export function fleetNode(node: NodeObject, nowMs: number): FleetNode {
  const name = node.metadata?.name ?? '';
  const condition = standing(node, CONDITION_TYPE);
  if (!condition) return { name, answer: 'unknown', reason: 'NoCondition', message: 'no imds-guard has written a condition for this node' };
  const heartbeatMs = Date.parse(condition.lastHeartbeatTime ?? '');
  const ageSeconds = Number.isNaN(heartbeatMs) ? undefined : Math.max(0, Math.round((nowMs - heartbeatMs) / 1000));
  const message = (condition.message ?? '').replace(/ \[boot [^\]]*\]$/, '');
  const rest = { name, ...(ageSeconds === undefined ? {} : { ageSeconds }) };
  if (ageSeconds === undefined || ageSeconds * 1000 > STALE_AFTER_MS) return { ...rest, answer: 'unknown', reason: 'StaleHeartbeat', message: `nobody has kept it since: it said ${condition.status} ${condition.reason}` };
  const [told, is] = [bootIdOf(condition.message ?? ''), node.status?.nodeInfo?.bootID];
  if (told === undefined || (is !== undefined && is !== '' && told !== is)) return { ...rest, answer: 'unknown', reason: 'OtherBoot', message: `it is of another boot: it said ${condition.status} ${condition.reason}` };
  return { ...rest, answer: condition.status === 'True' ? 'blocked' : condition.status === 'False' ? 'open' : 'unknown', reason: condition.reason ?? '', message };
}

/** Nodes with no Linux of ours. */
export const isLeftOut = ({ metadata }: NodeObject & { readonly metadata?: { readonly labels?: Readonly<Record<string, string>> } }): boolean => {
  const labels = metadata?.labels ?? {};
  return (labels['kubernetes.io/os'] ?? 'linux') !== 'linux' || labels['eks.amazonaws.com/compute-type'] === 'fargate';
};

const ORDER: readonly Answer[] = ['open', 'unknown', 'blocked'];

/** Those that want somebody come first. */
export function fleetOf(nodes: readonly FleetNode[], leftOut: number): Fleet {
  const totals = { blocked: 0, open: 0, unknown: 0 };
  for (const { answer } of nodes) totals[answer] += 1;
  const answer = totals.open > 0 ? 'open' : totals.unknown > 0 || nodes.length === 0 ? 'unknown' : 'blocked';
  return { answer, totals, leftOut, nodes: [...nodes].sort((a, b) => ORDER.indexOf(a.answer) - ORDER.indexOf(b.answer) || (a.name < b.name ? -1 : 1)) };
}
