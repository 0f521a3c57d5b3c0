import { type ElementFields, keyBytes } from 'node-iptables/netlink';
import { type CountTable, ageMs, countingOf, sinceMsAgo } from '../clients/counts-of-table.ts';
import { type CountSet, type Counting, SINCE_SET, countSets } from '../guard-table.ts';

/** What one table has counted, for the one that takes its place. */
export interface CarriedCounts {
  /** Undefined: the time begins now. */
  readonly sinceMsAgo: number | undefined;
  readonly sets: readonly { readonly name: string; readonly elements: readonly ElementFields[] }[];
}
export const NOTHING_CARRIED: CarriedCounts = { sinceMsAgo: undefined, sets: [] };

/** Of a set: more than a node has pods, and as one message has room for. */
export const MOST_CARRIED = 512;

/**
 * Counts, and nothing else: what does not look like an element of ours stays behind, whoever wrote the table. Those of an older
 * version, whose sets forget sooner or later, keep their age. The time goes on as long as no less was counted than will be.
 */
export function carriedCounts(table: CountTable, counting: Counting): CarriedCounts {
  const before = countingOf(table);
  const since = before === 'full' || before === counting ? sinceMsAgo(table) : undefined;
  return {
    sinceMsAgo: since !== undefined && SINCE_SET.timeoutMs - since >= SHORTEST_MS ? since : undefined,
    sets: countSets(counting).flatMap((set) => {
      const there = table.sets.find(({ state }) => state.name === set.name);
      const elements = there ? carriedElements(set, there) : [];
      return elements.length === 0 ? [] : [{ name: set.name, elements }];
    }),
  };
}

/** To the kernel no time left, in its own ticks, is all of it. */
const SHORTEST_MS = 1000;

/** The latest first. */
const carriedElements = ({ key, timeoutMs, hasCounter = true }: CountSet, { state, elements }: CountTable['sets'][number]): ElementFields[] =>
  elements
    .filter((element) => element.key.length === keyBytes(key) && (element.counted !== undefined) === hasCounter)
    .map((element) => ({ element, age: ageMs(element, state) }))
    .filter(({ age }) => timeoutMs - age >= SHORTEST_MS)
    .sort((a, b) => a.age - b.age)
    .slice(0, MOST_CARRIED)
    .map(({ element, age }) => ({ key: element.key, expiresMs: timeoutMs - age, ...(element.counted ? { counted: element.counted } : {}) }));
