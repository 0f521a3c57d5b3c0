import type { PodNetwork } from './pod-network.ts';

/** So many of each kind tell what rules do to all of that kind: rules know interfaces, not pods. */
export const EACH_KIND = 2;
/** More at once is a load: each has up to four connections. */
export const MOST_NETWORKS = 512;

/** `eni+`, `macvlan`: what rules tell apart; `nested` for one that is connected to no link of the node. A pod with both is of the one that passes them by. */
export function kindOf({ hostInterfaces, strangers }: PodNetwork, patternOf: (name: string) => string): string {
  return strangers[0]?.kind ?? (hostInterfaces.length === 0 ? 'nested' : [...new Set(hostInterfaces.map(patternOf))].sort().join(' '));
}

/**
 * Which networks to try: some of each kind, in turn, and always each that has an interface of another kind than veth.
 *
 * @param turn any number: others come first the next time
 */
export function choose(networks: readonly PodNetwork[], patternOf: (name: string) => string, turn: number, all: boolean): readonly PodNetwork[] {
  if (all) return networks.slice(0, MOST_NETWORKS);
  const kinds = Map.groupBy(networks, (network) => (network.strangers.length > 0 ? network.inode : kindOf(network, patternOf)));
  return [...kinds.values()].flatMap((some) => some.map((_, at) => some[(at + turn) % some.length]!).slice(0, EACH_KIND)).slice(0, MOST_NETWORKS);
}
