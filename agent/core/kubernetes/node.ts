import { type Condition, type WrittenCondition, isSame } from './condition.ts';

/** A Node as the API sends it, as far as it is used. */
export interface NodeObject {
  readonly metadata?: { readonly name?: string; readonly resourceVersion?: string; readonly creationTimestamp?: string };
  readonly spec?: { readonly taints?: readonly Taint[] };
  readonly status?: { readonly conditions?: readonly Partial<WrittenCondition & { readonly type: string }>[]; readonly nodeInfo?: { readonly bootID?: string } };
}
export interface Taint {
  readonly key: string;
  readonly value?: string;
  readonly effect?: string;
}

/** What stands in the API of ours. */
export const standing = (node: NodeObject, type: string): Partial<WrittenCondition> | undefined => node.status?.conditions?.find((one) => one.type === type) as Partial<WrittenCondition> | undefined;

/** With its times: the transition is kept as long as the status is. */
export function written(condition: Condition, before: Pick<WrittenCondition, 'status' | 'lastTransitionTime'> | undefined, now: string): WrittenCondition {
  const stays = before !== undefined && before.status === condition.status && !Number.isNaN(Date.parse(before.lastTransitionTime));
  return { ...condition, lastHeartbeatTime: now, lastTransitionTime: stays ? before.lastTransitionTime : now };
}

export const isNewer = (condition: Condition, before: Condition | undefined): boolean => before === undefined || !isSame(condition, before);

/**
 * The patch that takes one taint away and no other, as JSON patch: refused by the server when the list has changed meanwhile.
 * Undefined where it is not there.
 */
export function withoutTaint({ spec }: NodeObject, key: string): string | undefined {
  const taints = spec?.taints ?? [];
  const kept = taints.filter((taint) => taint.key !== key);
  if (kept.length === taints.length) return undefined;
  return JSON.stringify([{ op: 'test', path: '/spec/taints', value: taints }, kept.length > 0 ? { op: 'replace', path: '/spec/taints', value: kept } : { op: 'remove', path: '/spec/taints' }]);
}

