import type { Family } from 'node-iptables';
import { IMDS } from './addresses.ts';
import type { Observed } from './observed.ts';

/**
 * Rules that translate another destination into IMDS. Such a packet is not to IMDS yet when it meets the chains before
 * routing, so a drop that stands only there does not stop it. Found by their words: a table of fifty thousand nat rules
 * is searched, not read.
 */
export function detours(observed: Observed, family: Family): string[] {
  const address = IMDS[family];
  const found: string[] = [];
  for (const ruleset of observed.rulesets.filter((one) => one.family === family)) {
    for (const chain of ruleset.tables.get('nat')?.chains.values() ?? []) {
      for (const rule of chain.rules) {
        const line = rule.uncut ?? rule.words.join(' ');
        if (line.includes(address) && line.includes('--to-destination')) found.push(`iptables-${ruleset.backend} nat ${chain.name}: ${line}`);
      }
    }
  }
  for (const table of observed.nft?.tables ?? []) {
    const inMaps = [...table.sets.values()].some((set) => set.kind === 'map' && JSON.stringify(set.elements).includes(address));
    for (const chain of table.chains.values()) {
      for (const rule of chain.rules) {
        if (rule.text.includes('dnat') && (rule.text.includes(address) || inMaps)) found.push(`nft ${table.family} ${table.name} ${chain.name}: ${rule.text}`);
      }
    }
  }
  return found;
}
