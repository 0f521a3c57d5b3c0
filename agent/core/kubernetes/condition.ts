import { REASONS } from '../reasons.ts';
import type { WatchStatus } from '../watch-status.ts';

/**
 * Our own condition of the Node: True is good, as kubelet and the EKS node monitoring agent have it. Never NetworkingReady, for which EKS
 * and Karpenter replace nodes; a type that nobody knows repairs nothing.
 */
export const CONDITION_TYPE = 'PodIMDSBlocked';

export interface Condition {
  readonly type: typeof CONDITION_TYPE;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** As the API keeps it. */
export interface WrittenCondition extends Condition {
  readonly lastHeartbeatTime: string;
  readonly lastTransitionTime: string;
}

/** The first of each start: what was true before it is not known any more. */
export const starting = (bootId: string): Condition => condition('Unknown', 'AgentStarting', 'imds-guard has just started and has not looked yet', bootId);

/** The last of a daemon that is told to stop: nobody watches any more, though the rules stay. */
export const stopping = (bootId: string): Condition => condition('Unknown', 'AgentStopped', 'imds-guard was stopped; the rules stay, and nobody watches them', bootId);

/** What the daemon knows, as a condition. */
export function conditionOf({ answer, reason, message, basis }: Pick<WatchStatus, 'answer' | 'reason' | 'message' | 'basis'>, bootId: string): Condition {
  const status = answer === 'blocked' ? 'True' : answer === 'open' ? 'False' : 'Unknown';
  const because = message === '' ? REASONS[reason].text : message;
  return condition(status, reason, basis.length === 0 ? because : `${because} (by ${basis.join(' and ')})`, bootId);
}

/** `kubectl describe node` shows it in one line; a reader finds the boot id at the end. */
const MOST_MESSAGE = 512;

function condition(status: Condition['status'], reason: string, text: string, bootId: string): Condition {
  const cut = text.length > MOST_MESSAGE ? `${text.slice(0, MOST_MESSAGE - 3)}...` : text;
  return { type: CONDITION_TYPE, status, reason, message: `${cut} [boot ${bootId}]` };
}

/** The boot that a message is of. */
export const bootIdOf = (message: string): string | undefined => / \[boot ([0-9a-f-]{36})\]$/.exec(message)?.[1];

/** Whether a reader sees another one: what is only newer is a heartbeat. */
export const isSame = (a: Condition, b: Condition): boolean => a.status === b.status && a.reason === b.reason && a.message === b.message;

/** A strategic merge by `type`: it touches our entry and no other (NodeCondition: patchMergeKey=type). */
export const conditionPatch = (written: WrittenCondition): string => JSON.stringify({ status: { conditions: [written] } });
