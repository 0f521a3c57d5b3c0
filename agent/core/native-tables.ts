import { type NftRuleset, type NftTable, type Ruleset, isKernelChain } from 'node-iptables';

/**
 * What nft lists, without what iptables-nft shows of the same tables: a rule must not be walked twice, and iptables
 * knows its own rules better. In a table that both show, only base chains that iptables does not know stay on a hook
 * (iptables-nft-save passes over them with a comment).
 */
export function nativeOnly(nft: NftRuleset, rulesets: readonly Ruleset[]): NftRuleset {
  return { ...nft, tables: nft.tables.flatMap((table) => (isShown(table, rulesets) ? foreignChains(table) : [table])) };
}

/** Whether iptables-nft-save showed the table. */
export const isShown = (table: Pick<NftTable, 'family' | 'name'>, rulesets: readonly Ruleset[]): boolean =>
  rulesets.some(
    (ruleset) =>
      ruleset.backend === 'nft' && table.family === (ruleset.family === 'ipv4' ? 'ip' : 'ip6') && ruleset.tables.get(table.name)?.state === 'read',
  );

/** Whether there is a chain on a hook that iptables would not show. */
export const hasForeignChains = (table: NftTable): boolean => [...table.chains.values()].some((chain) => chain.hook !== undefined && !isKernelChain(chain.name));

function foreignChains(table: NftTable): NftTable[] {
  if (!hasForeignChains(table)) return [];
  const chains = new Map([...table.chains].map(([name, chain]) => [name, isKernelChain(name) ? { ...chain, hook: undefined } : chain]));
  return [{ ...table, chains }];
}
