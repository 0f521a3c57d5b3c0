import type { PodIdentity } from './report.ts';

/** A network namespace that belongs to pods of this node, and how it is connected. */
export interface PodNetwork {
  /** `net:[4026532281]`: what the kernel calls it. */
  readonly inode: string;
  /** A path that leads there now: `/run/netns/cni-…`, or `/proc/PID/ns/net`. */
  readonly path: string;
  /** Usually one; several where containers of different pods share it. Empty where nothing tells. */
  readonly pods: readonly PodIdentity[];
  /** The host's ends of its veths. */
  readonly hostInterfaces: readonly string[];
  /** Interfaces of it that are no veth of this node: their packets meet none of its rules. `eth0 is a macvlan`. */
  readonly strangers: readonly Stranger[];
  /**
   * Interfaces of it whose other end is in a namespace that is not the node's, as in docker in docker: what it sends comes out of
   * another pod's network. Whoever may make a user namespace can make thousands.
   */
  readonly inward: readonly string[];
}

export interface Stranger {
  readonly name: string;
  readonly kind: string;
  /** A card, or lies on one of the node's: no pod can make one that only looks so. */
  readonly isCard: boolean;
}

/** What was found; a namespace that could not be looked into is no pod network, and is said. */
export interface PodNetworks {
  readonly networks: readonly PodNetwork[];
  readonly skipped: readonly { readonly path: string; readonly because: string }[];
}

/** Why a file under /run/netns is skipped that no namespace is mounted on any more. */
export const LEFT_OVER = 'no network namespace any more: nothing is mounted there';
/** Why a network is skipped that a pod has made too large to be looked through. */
export const TOO_MANY_LINKS = 'it has more interfaces than are looked through';

/**
 * Source ports of our own probes: outside of the ports that Linux hands out (32768 to 60999), so that rules can count them apart.
 * A pod can use them too; it is counted among the probes then, and dropped all the same.
 */
export const PROBE_PORTS = { first: 64512, last: 65023 } as const;
