import type { NodeObject } from '../core/kubernetes/node.ts';
import { statusMessage } from '../core/kubernetes/status-message.ts';
import type { KubeClient } from './kube-client.ts';

/** Pages are large enough to be few and small enough to be held. A Node with fifty images is 20 KB. */
const PAGE = 500;
const MOST_BYTES = 256 * 1024 * 1024;

/**
 * Every Node, page by page; each is shown and let go.
 *
 * @throws Error in words for the operator: not permitted, no answer
 */
export async function eachNode(client: KubeClient, selector: string | undefined, visit: (node: NodeObject) => void): Promise<void> {
  let next = '';
  do {
    const query = new URLSearchParams({ limit: String(PAGE), ...(selector === undefined ? {} : { labelSelector: selector }), ...(next === '' ? {} : { continue: next }) });
    const { status, body } = await client.ask({ method: 'GET', path: `/api/v1/nodes?${query.toString()}`, mostBytes: MOST_BYTES });
    if (status !== 200) throw new Error(`nodes cannot be listed: ${statusMessage(body) ?? `status ${status}`}`);
    const list = JSON.parse(body) as { readonly items?: readonly NodeObject[]; readonly metadata?: { readonly continue?: string } };
    for (const node of list.items ?? []) visit(node);
    next = list.metadata?.continue ?? '';
  } while (next !== '');
}
