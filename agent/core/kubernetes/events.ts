import type { Culprit, Overwrite } from '../watch-status.ts';
import type { Condition } from './condition.ts';

/** What is told once, when it happens, beside the condition. */
export interface NodeEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: 'PodIMDSBlocked' | 'PodIMDSOpen' | 'PodIMDSUnknown' | 'RulesOverwritten';
  readonly message: string;
}

const REASON: Readonly<Record<Condition['status'], NodeEvent['reason']>> = { True: 'PodIMDSBlocked', False: 'PodIMDSOpen', Unknown: 'PodIMDSUnknown' };

/** The answer is another one than before. */
export const eventOfCondition = ({ status, reason, message }: Condition): NodeEvent => ({
  type: status === 'True' ? 'Normal' : 'Warning',
  reason: REASON[status],
  message: `${reason}: ${message.replace(/ \[boot [^\]]*\]$/, '')}`,
});

export const eventOfOverwrite = ({ lost, culprit, couldHavePassed }: Overwrite): NodeEvent => ({
  type: 'Warning',
  reason: 'RulesOverwritten',
  message: `${culpritText(culprit)} took away ${lost.slice(0, 3).join('; ')}${lost.length > 3 ? ` and ${lost.length - 3} more` : ''}; ${PASSED[couldHavePassed]}`,
});

const PASSED: Readonly<Record<Overwrite['couldHavePassed'], string>> = { no: 'no packet could pass meanwhile', unknown: 'whether a packet could pass meanwhile is not known', yes: 'packets could pass until it was back' };

/** `iptables-nft of calico-node (pod 0f5c…)`; nobody is accused on a guess. */
function culpritText({ name, parent, podUid }: Culprit): string {
  if (name === undefined) return 'somebody';
  return `${name}${parent === undefined ? '' : ` of ${parent}`}${podUid === undefined ? '' : ` (pod ${podUid})`}`;
}

const MOST_MESSAGE = 1000;

/**
 * A v1 Event about the Node, in namespace `default` as kubelet's are.
 *
 * @param name unique; the same event again counts up under the name it had
 * @param at RFC 3339
 */
export const eventObject = (event: NodeEvent, node: string, name: string, at: string): string =>
  JSON.stringify({
    apiVersion: 'v1', kind: 'Event',
    metadata: { name, namespace: 'default' },
    involvedObject: { kind: 'Node', apiVersion: 'v1', name: node, uid: node },
    reason: event.reason, message: event.message.slice(0, MOST_MESSAGE), type: event.type, count: 1,
    firstTimestamp: at, lastTimestamp: at,
    source: { component: 'imds-guard', host: node }, reportingComponent: 'imds-guard', reportingInstance: node,
  });
export const eventCountPatch = (count: number, at: string): string => JSON.stringify({ count, lastTimestamp: at });
