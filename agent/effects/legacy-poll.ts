import { availableParallelism } from 'node:os';
import type { Family } from 'node-iptables';
import { LegacyTables } from 'node-iptables/kernel';
import { type LegacyInfo, hasRules, isSameInfo, shapeOf } from 'node-iptables/netlink';
import { LegacyNames } from './legacy-names.ts';

export interface LegacyTable {
  readonly family: Family;
  readonly table: string;
}

export interface LegacyPoll {
  /** Those that there are, as of the last look. */
  tables(): readonly LegacyTable[];
  /** How often they are looked at now: rarely, while no table has a rule. */
  pollMs(): number;
  stop(): void;
}

export interface LegacyPollOptions {
  readonly pollMs: number;
  readonly procNet: string;
  /** These have changed, come or gone; or may have: a change that cannot be ruled out counts. */
  onChange(tables: readonly LegacyTable[]): void;
  /** They could not be looked at. Told once, until they can be again. */
  onTrouble(error: unknown): void;
}

/**
 * The kernel tells nobody when a table of iptables-legacy changes, so it is asked again and again, without starting a program.
 * Cheap to ask, however long the table: how many entries it has, of how many bytes, and where its chains begin. That is
 * compared each time. A rule replaced by one of equal length, and a policy, show only in the entries themselves: they are
 * read as often as SHARE of a CPU allows: eight empty tables twice a second, one of 50,000 rules every few minutes.
 *
 * What is found before this resolves is where it starts from, and is not told.
 */
export async function startLegacyPoll({ pollMs, procNet, onChange, onTrouble }: LegacyPollOptions): Promise<LegacyPoll> {
  const kernel = await LegacyTables.open();
  const names = (['ipv4', 'ipv6'] as const).map((family) => ({ family, file: new LegacyNames(family, procNet) }));
  let seen: readonly Seen[] = [];
  let inTrouble = false;

  const look = (): readonly LegacyTable[] => {
    try {
      const before = seen;
      seen = lookAt(kernel, names.flatMap(({ family, file }) => file.read().map((table) => ({ family, table }))), before);
      inTrouble = false;
      return changesBetween(before, seen);
    } catch (error) {
      if (!inTrouble) onTrouble(error);
      inTrouble = true;
      return [];
    }
  };
  const interval = (): number => (seen.some(({ info }) => hasRules(info)) ? pollMs : pollMs * WHILE_EMPTY);
  const wait = (): NodeJS.Timeout => setTimeout(tick, interval());
  const tick = (): void => {
    const changed = look();
    timer = wait();
    if (changed.length > 0) onChange(changed);
  };

  look();
  let timer = wait();
  return {
    tables: () => seen.map(({ family, table }) => ({ family, table })),
    pollMs: interval,
    stop: () => {
      clearTimeout(timer);
      for (const { file } of names) file.close();
      kernel.close();
    },
  };
}

const WHILE_EMPTY = 10;

interface Seen extends LegacyTable {
  readonly info: LegacyInfo;
  /** Undefined when the entries were not read since the info changed. */
  readonly shape: string | undefined;
  /** When the entries may be read again. */
  readonly dueMs: number;
}

function lookAt(kernel: LegacyTables, tables: readonly LegacyTable[], before: readonly Seen[]): readonly Seen[] {
  const now = performance.now();
  return tables.flatMap((one): readonly Seen[] => {
    const info = kernel.info(one.family, one.table);
    if (info === undefined) return [];
    const last = before.find((other) => isSameTable(one, other));
    if (last !== undefined && last.dueMs > now) return [{ ...last, info, shape: isSameInfo(last.info, info) ? last.shape : undefined }];
    const entries = kernel.entries(one.family, one.table, info.size);
    return [{ ...one, info, shape: entries && shapeOf(entries, one.family), dueMs: now + ((MS_A_READ + info.entries * MS_AN_ENTRY) * tables.length) / SHARE }];
  });
}

/** How much of one CPU reading entries may take, all tables together. */
const SHARE = 0.0004;

/** What a read costs, as measured: a clock would measure our waiting too. */
const MS_A_READ = 0.025;
/** To copy it, to sum it up, and to add up its counters on every CPU. */
const MS_AN_ENTRY = 0.0015 + 0.00001 * availableParallelism();

/** Entries that were not read since the info changed may have changed again until they were: who looked between must look again. */
function changesBetween(before: readonly Seen[], after: readonly Seen[]): readonly LegacyTable[] {
  const gone = before.filter((one) => !after.some((other) => isSameTable(one, other)));
  const changed = after.filter((one) => {
    const last = before.find((other) => isSameTable(one, other));
    return last === undefined || !isSameInfo(last.info, one.info) || last.shape !== one.shape;
  });
  return [...gone, ...changed].map(({ family, table }) => ({ family, table }));
}

const isSameTable = (one: LegacyTable, other: LegacyTable): boolean => one.table === other.table && one.family === other.family;
