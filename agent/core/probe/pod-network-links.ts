import type { ListedLink } from 'node-iptables/netlink';
import type { PodNetwork, Stranger } from './pod-network.ts';

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
export function podNetworkOf({ links, nodeId }: { readonly links: readonly ListedLink[]; readonly nodeId: number | undefined }, node: Lookup, isPod: boolean): Pick<PodNetwork, 'hostInterfaces' | 'strangers' | 'inward'> | undefined {
  const outward = links.filter(({ loopback, kind }) => !loopback && !LEADS_NOWHERE.has(kind));
  const ofNode = outward.filter(({ peerNamespace }) => nodeId !== undefined && peerNamespace === nodeId);
  const hostInterfaces: string[] = [];
  for (const link of ofNode.filter(({ kind }) => kind === 'veth')) {
    const host = node.links.find((one) => one.index === link.peerIndex && one.kind === 'veth' && one.peerIndex === link.index);
    if (!host) continue;
    // The lab's IMDS, or a router beside the node. A pod that calls itself one (router advertisements) stays a pod.
    if (node.uplinks.has(host.name) && !isPod) return undefined;
    hostInterfaces.push(host.name);
  }
  const onCards = ofNode.filter(({ kind }) => kind !== 'veth');
  // A card of its own is told from the card of somebody else's machine only by the process that has it.
  const others = isPod ? outward.filter((link) => !ofNode.includes(link) && !liesHere(link)) : [];
  const isInward = ({ kind, peerNamespace }: ListedLink): boolean => kind !== '' && peerNamespace !== undefined;
  const stranger = (isCard: boolean) => ({ name, kind }: ListedLink): Stranger => ({ name, kind: kind === '' ? 'card' : kind, isCard: isCard || kind === '' });
  const strangers = [...onCards.map(stranger(true)), ...others.filter((link) => !isInward(link)).map(stranger(false))];
  const inward = others.filter(isInward).map(({ name }) => name);
  return hostInterfaces.length === 0 && strangers.length === 0 && inward.length === 0 ? undefined : { hostInterfaces, strangers, inward };
}

/** On another link of the same namespace, or with both ends in it: what goes by it goes by that one, or nowhere. */
const liesHere = ({ kind, peerIndex, peerNamespace }: ListedLink): boolean => kind !== '' && peerIndex !== 0 && peerNamespace === undefined;

/** Bridges that hand frames to the network outside, past every hook of IP, by their index. */
export function bridgesLeadingOut({ links, uplinks }: Lookup): ReadonlySet<number> {
  const outward = links.filter(({ name, kind }) => uplinks.has(name) || CARDS.has(kind));
  return new Set([...outward.map(({ master }) => master), ...links.filter(({ name, kind }) => kind === 'bridge' && uplinks.has(name)).map(({ index }) => index)].filter((index) => index !== 0));
}
const CARDS: ReadonlySet<string> = new Set(['', 'bond', 'team', 'vlan']);

/** Kinds that lead nowhere by themselves; tunnel devices that the kernel makes in every new namespace. */
export const LEADS_NOWHERE: ReadonlySet<string> = new Set(['dummy', 'ifb', 'bridge', 'sit', 'ipip', 'gre', 'gretap', 'erspan', 'ip6tnl', 'ip6gre', 'ip6gretap', 'ip6erspan', 'vti', 'vti6', 'tun', 'vcan', 'nlmon']);
