import { type Bound, type Family, formatAddress } from 'node-iptables';
import type { SetElement, SetState } from 'node-iptables/netlink';
import { CLIENT_SET, COUNTINGS, COUNT_SET_SIZE, type Counting, SINCE_ELEMENT, SINCE_SET, guardChains, setNames } from '../guard-table.ts';
import type { ClientCounts, InterfaceCount, ProcessCount, SourceCount } from './counts.ts';

/** A guard table as the kernel lists it. */
export interface CountTable {
  readonly isDormant: boolean;
  /** How many rules each chain has. */
  readonly rules: ReadonlyMap<string, number>;
  readonly sets: readonly { readonly state: SetState; readonly elements: readonly SetElement[] }[];
}

/** Sets of ours, and none that somebody made larger than ours are: to read it would take its time. */
export const isCountSet = ({ name, size }: SetState): boolean => OUR_SETS.has(name) && size !== undefined && size <= COUNT_SET_SIZE;
const OUR_SETS: ReadonlySet<string> = new Set(setNames('full'));
/** Of those the ones that no pod can fill: to read them takes as long as the node has interfaces and cgroups. */
export const isShortCountSet = ({ name }: SetState): boolean => !Object.values<string>(CLIENT_SET).includes(name);

/** What a guard table has counted. A set that is not there has counted nothing: a kernel may have refused it. */
export function countsOfTable(table: CountTable): Extract<ClientCounts, { state: 'counted' }> {
  const { rules, sets } = table;
  const named = (name: string): readonly Counted[] => {
    const set = sets.find(({ state }) => state.name === name);
    return set ? set.elements.map((element) => countedOf(element, set.state)) : [];
  };
  const recent = new Map(named('recent').map(({ key, startedMsAgo }) => [interfaceOf(key), startedMsAgo]));
  const since = sinceMsAgo(table);
  return {
    state: 'counted',
    mode: rules.get('forward') ? 'enforce' : 'observe',
    seesPayload: sets.some(({ state }) => state.name === 'puts'),
    ...(since === undefined ? {} : { sinceMsAgo: since }),
    interfaces: named('interfaces').map(({ key, packets, startedMsAgo }) => {
      // One set is read after the other: a single packet would be last seen before it was first seen.
      const lastMsAgo = recent.get(interfaceOf(key));
      return { interface: interfaceOf(key), packets, firstMsAgo: startedMsAgo, ...(lastMsAgo === undefined ? {} : { lastMsAgo: Math.min(lastMsAgo, startedMsAgo) }) };
    }),
    sources: FAMILIES.flatMap((family) => named(CLIENT_SET[family]).map((counted) => sourceOf(family, counted))),
    puts: named('puts').map(lastOf),
    gets: named('gets').map(lastOf),
    probes: named('probes').map(lastOf),
    processes: named('processes').map(processOf),
    full: sets.filter(({ state: { name, size }, elements }) => name !== SINCE_SET.name && size !== undefined && elements.length >= size).map(({ state }) => state.name),
  };
}

/** For how long this table has counted, if it counts: one that has lost its rules, or sleeps, tells nothing of who did not ask. */
export function sinceMsAgo(table: CountTable): number | undefined {
  const set = table.sets.find(({ state }) => state.name === SINCE_SET.name);
  const element = set?.elements.find(({ key }) => interfaceOf(key) === SINCE_ELEMENT);
  return set && element && countingOf(table) !== undefined ? ageMs(element, set.state) : undefined;
}

/** What a table counts, told by its sets and by how many rules it has; undefined where one is missing, or somebody has added one. */
export const countingOf = ({ isDormant, rules: there, sets }: CountTable): Counting | undefined =>
  COUNTINGS.find(
    (counting) =>
      !isDormant &&
      guardChains('observe', counting).every(({ name, rules }) => there.get(name) === rules.length) &&
      setNames(counting).every((name) => sets.some(({ state }) => state.name === name)),
  );

/** How long ago the time of an element began: with `update` the last packet, with `add` the first. */
export const ageMs = ({ timeoutMs, expiresMs }: SetElement, set: SetState): number => Math.max(0, (timeoutMs ?? set.timeoutMs ?? 0) - (expiresMs ?? 0));

interface Counted {
  readonly key: Buffer;
  readonly packets: number;
  readonly startedMsAgo: number;
}

const countedOf = (element: SetElement, set: SetState): Counted => ({ key: element.key, packets: Number(element.counted?.packets ?? 0n), startedMsAgo: ageMs(element, set) });

const FAMILIES = ['ipv4', 'ipv6'] as const;
/** A key has the name first, in as many bytes as the kernel gives one (IFNAMSIZ). */
const NAME_BYTES = 16;
const ADDRESS_BYTES = { ipv4: 4, ipv6: 16 } as const;

/** Names are bytes to the kernel; latin1 keeps each of them. */
const interfaceOf = (key: Buffer): string => key.toString('latin1', 0, NAME_BYTES).replace(/\0.*$/s, '');

const lastOf = ({ key, packets, startedMsAgo }: Counted): InterfaceCount => ({ interface: interfaceOf(key), packets, lastMsAgo: startedMsAgo });
const sourceOf = (family: Family, { key, packets, startedMsAgo }: Counted): SourceCount => ({
  family,
  interface: interfaceOf(key),
  source: formatAddress(family, addressOf(family, key.subarray(NAME_BYTES, NAME_BYTES + ADDRESS_BYTES[family]))),
  packets,
  lastMsAgo: startedMsAgo,
});
const addressOf = (family: Family, bytes: Buffer): Bound => (family === 'ipv4' ? bytes.readUInt32BE(0) : BigInt(`0x${bytes.toString('hex')}`));

/** The kernel's own number, in the machine's order. */
const processOf = ({ key, packets, startedMsAgo }: Counted): ProcessCount => ({ cgroup: String(key.readBigUInt64LE(0)), packets, lastMsAgo: startedMsAgo });
