import type { Ruleset, Table } from './model.ts';
import { ruleText } from './save/read-rule.ts';

/** A rule that should stand in a chain which others write to as well. */
export interface OwnedRule {
  readonly table: string;
  readonly chain: string;
  /** In canonical form, as `ruleText` gives it: `-A FORWARD -d 192.0.2.7/32 -i eni+ -j DROP`. */
  readonly text: string;
}

export type Found =
  /** Where all its copies stand in the chain, from 1, among the rules that could be read. */
  | { readonly is: 'present'; readonly rule: OwnedRule; readonly positions: readonly number[] }
  | { readonly is: 'absent'; readonly rule: OwnedRule }
  | { readonly is: 'unknown'; readonly rule: OwnedRule; readonly because: string };

export interface OwnedDiff {
  /** One for each owned rule, in the order given. A rule that is owned twice and stands there once is present, then absent. */
  readonly found: readonly Found[];
  /** Copies beyond those owned, the last ones: what may be deleted. */
  readonly extra: readonly ExtraCopy[];
}

export interface ExtraCopy {
  readonly rule: OwnedRule;
  readonly position: number;
}

/**
 * Looks for each owned rule by what it says, not by how it was written. "Not seen" counts as absent only where all was
 * seen: a table that cannot be shown, or holds lines that cannot be read, makes it unknown. Presence is not
 * enforcement: a rule that is present may stand below one that accepts.
 */
export function diffOwned(observed: Ruleset, owned: readonly OwnedRule[]): OwnedDiff {
  const places = new Map<string, readonly number[]>();
  const owners = new Map<string, number>();
  const found = owned.map((rule): Found => {
    const key = JSON.stringify([rule.table, rule.chain, rule.text]);
    const nth = (owners.get(key) ?? 0) + 1;
    owners.set(key, nth);
    const table = observed.tables.get(rule.table);
    const positions = places.get(key) ?? positionsOf(rule, table, observed);
    places.set(key, positions);
    if (table?.state !== 'incompatible' && positions.length >= nth) return { is: 'present', rule, positions };
    const because = whyUnknown(observed, table);
    return because === undefined ? { is: 'absent', rule } : { is: 'unknown', rule, because };
  });
  return { found, extra: extraCopies(found, owners) };
}

function positionsOf(wanted: OwnedRule, table: Table | undefined, observed: Ruleset): number[] {
  const positions: number[] = [];
  for (const [at, rule] of (table?.chains.get(wanted.chain)?.rules ?? []).entries()) {
    if (ruleText(rule, observed.family) === wanted.text) positions.push(at + 1);
  }
  return positions;
}

function whyUnknown(observed: Ruleset, table: Table | undefined): string | undefined {
  if (table?.state === 'incompatible') return `the table ${table.name} holds nftables rules that iptables cannot show`;
  const unread = table?.unread[0] ?? observed.unread[0];
  return unread && `line ${unread.line} cannot be read: ${unread.text}`;
}

function extraCopies(found: readonly Found[], owners: ReadonlyMap<string, number>): ExtraCopy[] {
  const extra: ExtraCopy[] = [];
  const seen = new Set<string>();
  for (const each of found) {
    if (each.is !== 'present') continue;
    const key = JSON.stringify([each.rule.table, each.rule.chain, each.rule.text]);
    if (seen.has(key)) continue;
    seen.add(key);
    for (const position of each.positions.slice(owners.get(key))) extra.push({ rule: each.rule, position });
  }
  return extra;
}
