import type { Test } from '../packet/test.ts';
import { depends, unreadTest } from './doubt.ts';
import { isObject, listOf, member, nameOf } from './json.ts';
import type { NftSet, NftTable } from './model.ts';

/** What stands in a set, anonymous (`{"set": […]}`) or named (`"@names"`). */
export interface Elements {
  readonly listed: readonly Element[];
  /** Why the list is not all there is to know; then nobody may rely on it. */
  readonly doubt: Test | undefined;
}

export interface Element {
  readonly key: unknown;
  /** What a map gives for the key. */
  readonly data: unknown;
  /** An element of its own clock or rate: what is listed now need not match later. */
  readonly doubt: Test | undefined;
}

export function elementsOf(data: unknown, table: NftTable): Elements {
  const anonymous = member(data, 'set');
  if (Array.isArray(anonymous)) return { listed: anonymous.map(element), doubt: undefined };
  if (typeof data !== 'string' || !data.startsWith('@')) return { listed: [], doubt: unreadTest(JSON.stringify(data) ?? 'a set') };
  const set = table.sets.get(data.slice(1));
  if (!set) return { listed: [], doubt: unreadTest(`the elements of ${data}`) };
  return { listed: set.elements.map(element), doubt: doubtAbout(set, table) };
}

function doubtAbout(set: NftSet, table: NftTable): Test | undefined {
  if (set.unread.length > 0) return unreadTest(set.unread.join(' '));
  if (set.hasConditions) return depends(`the conditions of the set ${set.name}`);
  if (set.hasTimeout || set.flags.includes('dynamic') || updatedSets(table).has(set.name)) return depends(`what is in the set ${set.name}`);
  return undefined;
}

/** `"10.0.0.1"`, `["10.0.0.1", {"accept": null}]`, and either key as `{"elem": {"val": "10.0.0.1", "expires": 59}}` */
function element(item: unknown): Element {
  const [whole, data] = Array.isArray(item) ? item : [item, undefined];
  const body = member(whole, 'elem');
  if (!isObject(body)) return { key: whole, data, doubt: undefined };
  const key = body['val'];
  if (body['timeout'] !== undefined || body['expires'] !== undefined) return { key, data, doubt: depends('how long an element stays in the set') };
  const plain = ['val', 'comment', 'counter', 'last'];
  return { key, data, doubt: Object.keys(body).every((name) => plain.includes(name)) ? undefined : depends('the conditions of an element') };
}

const updated = new WeakMap<NftTable, ReadonlySet<string>>();

/** The sets that rules of the table change: nft 1.0.6 leaves the flag `dynamic` out of its JSON. */
function updatedSets(table: NftTable): ReadonlySet<string> {
  let names = updated.get(table);
  if (!names) {
    const found = new Set<string>();
    for (const chain of table.chains.values()) {
      for (const rule of chain.rules) for (const expression of rule.expressions) for (const name of setsChangedBy(expression)) found.add(name);
    }
    updated.set(table, (names = found));
  }
  return names;
}

/** `{"set": {"op": "update", "elem": …, "set": "@clients"}}`; maps and the meters of old nft likewise, and whatever unread words name. */
function setsChangedBy(expression: unknown): string[] {
  const kind = nameOf(expression);
  if (typeof expression === 'string' || kind === 'unread') return [...JSON.stringify(expression).matchAll(/@([\w./\\-]+)/g)].map((found) => found[1]!);
  if (kind !== 'set' && kind !== 'map' && kind !== 'meter') return [];
  const body = member(expression, kind);
  return [...listOf(member(body, kind)), ...listOf(member(body, 'name'))].filter((name) => typeof name === 'string').map((name) => name.replace(/^@/, ''));
}
