import type { ListedLink } from 'node-iptables/netlink';
import type { PodNetwork } from './pod-network.ts';

/** The node's side. */
export interface Lookup {
  readonly links: readonly ListedLink[];
  /** Interfaces that the node itself goes out by: what is at their other end is no pod. */
  readonly uplinks: ReadonlySet<string>;
}

/**
 * How a namespace is connected to this node; undefined where it is no pod's.
 *
 * @param around its links, and by which number it knows the node's namespace
 * @param isPod whether one of its processes is in a pod's cgroup: then it is a pod's, however it is connected
 */
export function podNetworkOf({ links, nodeId }: { readonly links: readonly ListedLink[]; readonly nodeId: number | undefined }, node: Lookup, isPod: boolean): Pick<PodNetwork, 'hostInterfaces' | 'strangers'> | undefined {
  const outward = links.filter(({ loopback, kind }) => !loopback && !LEADS_NOWHERE.has(kind));
  const ofNode = outward.filter(({ peerNamespace }) => nodeId !== undefined && peerNamespace === nodeId);
  const hostInterfaces: string[] = [];
  for (const link of ofNode.filter(({ kind }) => kind === 'veth')) {
    const host = node.links.find((one) => one.index === link.peerIndex && one.kind === 'veth' && one.peerIndex === link.index);
    if (!host) continue;
    // The lab's IMDS, or a router beside the node.
    if (node.uplinks.has(host.name)) return undefined;
    hostInterfaces.push(host.name);
  }
  const onCards = ofNode.filter(({ kind }) => kind !== 'veth');
  // A card of its own is told from the card of somebody else's machine only by the process that has it.
  const others = isPod ? outward.filter((link) => !ofNode.includes(link)) : [];
  const strangers = [...onCards, ...others].map(({ name, kind }) => ({ name, kind: kind === '' ? 'card' : kind }));
  return hostInterfaces.length === 0 && strangers.length === 0 ? undefined : { hostInterfaces, strangers };
}

/** Kinds that lead nowhere by themselves; tunnel devices that the kernel makes in every new namespace. */
const LEADS_NOWHERE: ReadonlySet<string> = new Set(['dummy', 'ifb', 'bridge', 'sit', 'ipip', 'gre', 'gretap', 'erspan', 'ip6tnl', 'ip6gre', 'ip6gretap', 'ip6erspan', 'vti', 'vti6', 'tun', 'vcan', 'nlmon']);
