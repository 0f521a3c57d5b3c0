import type { NftRuleset, NftTable, TracedChain } from 'node-iptables';
import type { PathChain } from './report.ts';
import { NOT_LISTED } from './unlisted-tables.ts';

/**
 * The chains that a proof rests on, each once: those that packets enter, and those that see them before any hook and might send
 * them elsewhere. The chains that stand for tables nobody could list are none.
 */
export function pathOf(entered: readonly TracedChain[], nft: NftRuleset | undefined): PathChain[] {
  const chains = [
    ...entered.filter(({ place }) => place.table !== NOT_LISTED).map(({ place, name }): PathChain => ({ backend: place.backend, family: place.family, table: place.table, chain: name })),
    ...(nft?.tables ?? []).flatMap(earlyChains),
  ];
  return [...new Map(chains.map((chain) => [Object.values(chain).join(' '), chain])).values()];
}

/** Of a table with a chain before all hooks: that chain, and whatever it may jump to. */
function earlyChains(table: NftTable): PathChain[] {
  const chains = [...table.chains.values()];
  const isEarly = (hook: string | undefined): boolean => hook !== undefined && (table.family === 'netdev' || hook === 'ingress');
  if (!chains.some(({ hook }) => isEarly(hook))) return [];
  return chains.filter(({ hook }) => hook === undefined || isEarly(hook)).map(({ name }): PathChain => ({ backend: 'nft-native', family: table.family, table: table.name, chain: name }));
}
