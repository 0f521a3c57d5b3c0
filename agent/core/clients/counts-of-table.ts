import { type Bound, type Family, formatAddress } from 'node-iptables';
import type { SetElement, SetState } from 'node-iptables/netlink';
import { CLIENT_SET } from '../guard-table.ts';
import type { ClientCounts, InterfaceCount, ProcessCount, SourceCount } from './counts.ts';

/** The sets of a guard table as the kernel lists them. */
export interface CountTable {
  readonly mode: 'enforce' | 'observe';
  readonly sets: readonly { readonly state: SetState; readonly elements: readonly SetElement[] }[];
}

/** What a guard table has counted. A set that is not there has counted nothing: a kernel may have refused it. */
export function countsOfTable({ mode, sets }: CountTable): Extract<ClientCounts, { state: 'counted' }> {
  const named = (name: string): readonly Counted[] => {
    const set = sets.find(({ state }) => state.name === name);
    return set ? set.elements.map((element) => countedOf(element, set.state)) : [];
  };
  const recent = new Map(named('recent').map(({ key, startedMsAgo }) => [interfaceOf(key), startedMsAgo]));
  return {
    state: 'counted',
    mode,
    seesPayload: sets.some(({ state }) => state.name === 'puts'),
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
    full: sets.filter(({ state: { size }, elements }) => size !== undefined && elements.length >= size).map(({ state }) => state.name),
  };
}

interface Counted {
  readonly key: Buffer;
  readonly packets: number;
  /** When the element's time began: with `update` the last packet, with `add` the first. */
  readonly startedMsAgo: number;
}

const countedOf = ({ key, packets, timeoutMs, expiresMs }: SetElement, set: SetState): Counted => ({
  key,
  packets: Number(packets ?? 0n),
  startedMsAgo: Math.max(0, (timeoutMs ?? set.timeoutMs ?? 0) - (expiresMs ?? 0)),
});

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
