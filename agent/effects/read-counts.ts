import { type SetElement, type SetState, TABLE_FLAG, type TableState, listElements, listRules, listSets, listTables, readElements, readSet, readTable } from 'node-iptables/netlink';
import { ERRNO, KernelError, type NetlinkRequests } from 'node-iptables/kernel';
import { GUARD_TABLE, OWNED_GUARD_TABLE, guardChains } from '../core/guard-table.ts';
import type { ClientCounts } from '../core/clients/counts.ts';
import { type CountTable, countsOfTable, isCountSet } from '../core/clients/counts-of-table.ts';

/** What the guard table has counted so far, whoever keeps it. Never throws: what cannot be read is absent, and says why. */
export function readCounts(requests: NetlinkRequests, attempts = 3): ClientCounts {
  try {
    const table = standingTable(requests);
    return table === undefined ? { state: 'absent', because: `there is no table inet ${GUARD_TABLE}` } : countsOfTable(readCountTable(requests, table));
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    // The table was there a moment ago: somebody writes it anew.
    if (error.errno === ERRNO.ENOENT && attempts > 1) return readCounts(requests, attempts - 1);
    return { state: 'absent', because: error.errno === ERRNO.EPERM ? 'not permitted: CAP_NET_ADMIN is needed' : `nf_tables does not answer (${error.message})` };
  }
}

/** The one with an owner cannot have been written anew since, and has counted for longer. */
function standingTable(requests: Lister): TableState | undefined {
  const there = new Map<string, TableState>();
  list(requests, listTables(), (message) => {
    const table = readTable(message);
    if (table?.family === 'inet') there.set(table.name, table);
  });
  return there.get(OWNED_GUARD_TABLE) ?? there.get(GUARD_TABLE);
}

/**
 * @param isRead of which sets the elements are wanted
 * @throws KernelError when it goes away meanwhile
 */
export function readCountTable(requests: Lister, { name, flags }: TableState, isRead: (set: SetState) => boolean = isCountSet): CountTable {
  const place = { family: 'inet', table: name } as const;
  const states: SetState[] = [];
  list(requests, listSets(place), (message) => states.push(readSet(message)));
  return {
    isDormant: (flags & TABLE_FLAG.DORMANT) !== 0,
    rules: new Map(CHAINS.map((chain) => [chain, rulesIn(requests, { ...place, chain })])),
    sets: states.filter(isCountSet).map((state) => ({ state, elements: isRead(state) ? elementsOf(requests, { ...place, set: state.name }) : [] })),
  };
}

const CHAINS = guardChains('drop', 'full').map(({ name }) => name);

/** A chain that is not there has no rules: ENOENT is an answer. */
function rulesIn(requests: Lister, place: Parameters<typeof listRules>[0]): number {
  let rules = 0;
  requests.list(listRules(place), () => (rules += 1));
  return rules;
}

/** A list that is read while the set grows may tell an element twice. */
function elementsOf(requests: Lister, place: Parameters<typeof listElements>[0]): SetElement[] {
  const elements = new Map<string, SetElement>();
  list(requests, listElements(place), (message) => {
    // What a message holds is gone after the call.
    for (const element of readElements(message)) elements.set(element.key.toString('latin1'), { ...element, key: Buffer.from(element.key) });
  });
  return [...elements.values()];
}

/** That something changed meanwhile is no failure: a count is of a moment. */
function list(requests: Lister, request: Buffer, visit: Parameters<NetlinkRequests['list']>[1]): void {
  const failed = requests.list(request, visit);
  if (typeof failed === 'number') throw new KernelError('nf_tables', failed);
}

type Lister = Pick<NetlinkRequests, 'list'>;
