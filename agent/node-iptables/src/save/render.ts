import type { Chain, Rule, Ruleset, Table } from '../model.ts';
import type { Family } from '../sets/address.ts';
import { ruleText } from './read-rule.ts';

/**
 * A ruleset as `iptables-save` prints it, in canonical form and without dates: exact bytes, fit for
 * `iptables-restore`. Lines that could not be read are left out, for they cannot be restored; ask `ruleset.unread` and
 * `table.unread` for them.
 */
export const renderRuleset = (ruleset: Ruleset, options: RenderOptions = {}): string =>
  [...ruleset.tables.values()].map((table) => renderTable(table, ruleset.family, options)).join('');

export interface RenderOptions {
  /** Whether each rule begins with its `[packets:bytes]`, as with `iptables-save -c`. Default: no. */
  readonly counters?: boolean;
}

export function renderTable(table: Table, family: Family, options: RenderOptions = {}): string {
  // What iptables-nft-save prints in its place: an empty table would be another claim.
  if (table.state === 'incompatible') return `# Table \`${table.name}' is incompatible, use 'nft' tool.\n`;
  const lines = [`*${table.name}`];
  const chains = [...table.chains.values()];
  const declared = chains.filter((chain) => chain.declared);
  for (const chain of declared) lines.push(chainLine(chain));
  // In the order in which they will be met again.
  for (const chain of [...declared, ...chains.filter((other) => !other.declared)]) {
    for (const rule of chain.rules) lines.push(`${options.counters ? countersText(rule) : ''}${ruleText(rule, family)}`);
  }
  return `${lines.join('\n')}\nCOMMIT\n`;
}

/** `:FORWARD ACCEPT [12:3456]`; a dash stands for the policy that a user's own chain does not have. Never quoted: iptables-restore takes this line as it is. */
const chainLine = (chain: Chain): string =>
  `:${chain.name} ${chain.policy ?? '-'} [${chain.counters?.packets ?? 0}:${chain.counters?.bytes ?? 0}]`;

const countersText = (rule: Rule): string => `[${rule.counters?.packets ?? 0}:${rule.counters?.bytes ?? 0}] `;
