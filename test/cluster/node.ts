// What a cluster holds of a node: the Node, its conditions, and a pod on it with an account to speak for itself.
import type { ApiServer } from './api-server.ts';
import { granted } from './request.ts';

export interface NodeOptions {
  readonly labels?: Readonly<Record<string, string>>;
  readonly taints?: readonly { readonly key: string; readonly effect: 'NoSchedule' | 'NoExecute'; readonly value?: string }[];
}

export interface NodeCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason?: string;
  readonly message?: string;
  readonly lastHeartbeatTime?: string;
  readonly lastTransitionTime?: string;
}

export interface PodPlace {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly serviceAccount: string;
}

/** What a kubelet says of a healthy node, and no agent of ours may touch. */
export const kubeletIsReady: NodeCondition = { type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'kubelet is posting ready status' };

/** As a kubelet registers it: with its Ready condition. */
export async function createNode(server: ApiServer, name: string, { labels = {}, taints = [] }: NodeOptions = {}): Promise<void> {
  await granted(server.admin('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } }, spec: { taints } }));
  await granted(server.admin('PATCH', `/api/v1/nodes/${name}/status`, { status: { conditions: [kubeletIsReady] } }));
}

export async function deleteNode(server: ApiServer, name: string): Promise<void> {
  await granted(server.admin('DELETE', `/api/v1/nodes/${name}`));
}

/** By type; empty where there are none yet. */
export async function conditionsOf(server: ApiServer, node: string): Promise<Readonly<Record<string, NodeCondition>>> {
  const { status } = await granted(server.admin('GET', `/api/v1/nodes/${node}`));
  const conditions = (status.conditions ?? []) as readonly NodeCondition[];
  return Object.fromEntries(conditions.map(condition => [condition.type, condition]));
}

export async function createNamespace(server: ApiServer, name: string): Promise<void> {
  await granted(server.admin('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }));
}

export async function createServiceAccount(server: ApiServer, namespace: string, name: string): Promise<void> {
  await granted(server.admin('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } }));
}

/** Bound to its node at once, as by a scheduler. */
export async function createPod(server: ApiServer, { namespace, name, node, serviceAccount }: PodPlace): Promise<void> {
  await granted(
    server.admin('POST', `/api/v1/namespaces/${namespace}/pods`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: { nodeName: node, serviceAccountName: serviceAccount, containers: [{ name: 'agent', image: 'agent' }] },
    }),
  );
}

/** At once: there is no kubelet that would say that it has ended. */
export async function deletePod(server: ApiServer, namespace: string, name: string): Promise<void> {
  await granted(server.admin('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`));
}
