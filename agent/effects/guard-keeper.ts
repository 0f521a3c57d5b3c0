import { type Message, META, RULE, type TableState, attributesOf, batch, comparison, deleteTable, expressionsOf, listRules, listTables, loadedMeta, packetsOf, readTable, verdictOf } from 'node-iptables/netlink';
import { ERRNO, KernelError, type NetlinkRequests } from 'node-iptables/kernel';
import { type CountTable, isShortCountSet } from '../core/clients/counts-of-table.ts';
import { NOTHING_CARRIED, carriedCounts } from '../core/watch/carried-counts.ts';
import { GUARD_FORMS, type GuardForm, type GuardWish, guardBatch, refusedPart, tableOf } from '../core/watch/guard-batch.ts';
import { COUNTINGS, type Counting, GUARD_TABLE, type GuardAct, OWNED_GUARD_TABLE, guardActOf } from '../core/guard-table.ts';
import type { Settings } from '../core/settings.ts';
import type { GuardStatus } from '../core/watch-status.ts';
import { readCountTable } from './read-counts.ts';

/** Tables of ours, whichever form the kernel takes. */
export const GUARD_TABLES: ReadonlySet<string> = new Set([GUARD_TABLE, OWNED_GUARD_TABLE]);

/** The guard table in the kernel: made, made again, and asked for what it counted. */
export class GuardKeeper {
  private readonly requests: Requests;
  private status: GuardStatus = { state: 'absent', because: 'not made yet' };
  /** Forms that this kernel has refused are not tried again. */
  private forms: readonly GuardForm[];
  private countings: readonly Counting[] = COUNTINGS;
  private act: GuardAct = 'drop';

  /**
   * @param requests the socket that will own the table: when it is closed, an owned table goes
   * @param forms to be tried, the best first; fewer than there are on a kernel that is known to be older
   */
  constructor(requests: Requests, forms: readonly GuardForm[] = GUARD_FORMS) {
    this.requests = requests;
    this.forms = forms;
  }

  /** The port by which the kernel knows us. */
  get port(): number {
    return this.requests.port;
  }

  get descriptor(): number {
    return this.requests.fd;
  }

  get state(): GuardStatus['state'] {
    return this.status.state;
  }

  /** Writes the table, whatever stands in its place, unless another process owns it. What that has counted is carried over. */
  keep(settings: Pick<Settings, 'guard' | 'mode' | 'action'>): GuardStatus {
    const act = guardActOf(settings);
    const isAsBefore = act === this.act;
    this.act = act;
    if (settings.guard === 'none') return this.giveUp();
    const wanted = settings.guard === 'plain' ? (['plain'] as const) : this.forms;
    // What nobody else can have changed is left alone.
    if (isAsBefore && this.status.state === 'owned-persistent' && wanted[0] === this.status.state && this.stands()) return this.status;
    const isRepair = isAsBefore && act !== 'observe' && this.status.state !== 'absent' && !this.stands();
    try {
      const there = this.tables();
      const counted = this.counted(there, isRepair);
      for (const form of wanted) {
        const result = this.write(form, there, counted);
        if (result === 'written') return (this.status = { state: form });
        if (result !== 'unknown-form') return (this.status = { state: 'absent', because: result });
        this.forms = this.forms.filter((one) => one !== form);
      }
      return (this.status = { state: 'absent', because: 'this kernel has no nf_tables, or not for the family inet' });
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      return (this.status = { state: 'absent', because: error.errno === ERRNO.EPERM ? NOT_PERMITTED : `nf_tables does not answer (${error.message})` });
    }
  }

  /** What nobody else can take away. A plain one goes with the next look. */
  private giveUp(): GuardStatus {
    try {
      for (const table of this.tables()) if (table.owner === this.port) this.requests.ask(...batch(deleteTable({ family: 'inet', table: table.name })));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
    return (this.status = { state: 'absent', because: 'switched off by the settings' });
  }

  /** Whether every table that we wrote is still there and, where it is to be so, ours. */
  stands(): boolean {
    if (this.status.state === 'absent') return false;
    try {
      const there = this.tables();
      const needed = this.status.state === 'owned' ? [OWNED_GUARD_TABLE, GUARD_TABLE] : [GUARD_TABLE];
      return needed.every((name) => there.some((table) => table.name === name && (table.owner === this.port || (table.owner === undefined && this.status.state !== 'owned-persistent' && this.works(name)))));
    } catch {
      return false;
    }
  }

  /** Whether a table that anybody can change still does for both families what it is there for. */
  private works(table: string): boolean {
    const families = new Set<string>();
    const observes = this.act === 'observe';
    this.requests.list(listRules({ family: 'inet', table, chain: observes ? 'count' : 'forward' }), ({ body }) => {
      const { family, drops } = readGuardRule(body);
      if (observes || drops) families.add(family);
    });
    return families.size === 2;
  }

  /** With what it has dropped so far. */
  read(): GuardStatus {
    const { status } = this;
    if (status.state === 'absent' || this.act === 'observe') return status;
    const dropped = { ipv4: 0, ipv6: 0 };
    try {
      for (const table of status.state === 'owned' ? [OWNED_GUARD_TABLE, GUARD_TABLE] : [GUARD_TABLE]) {
        this.requests.list(listRules({ family: 'inet', table, chain: 'forward' }), (message) => addDropped(message, dropped));
      }
      return { ...status, droppedPackets: dropped };
    } catch {
      return status;
    }
  }

  close(): void {
    this.requests.close();
  }

  private write(form: GuardForm, there: readonly TableState[], counted: CountTable | undefined): 'written' | 'unknown-form' | string {
    const existing = there.find(({ name }) => name === tableOf(form));
    if (existing?.owner !== undefined && existing.owner !== this.port) return `another process owns table inet ${existing.name}`;
    const failure = this.send(form, existing !== undefined, counted);
    if (failure === undefined) {
      // What goes with its owner must not leave the node bare: a plain one stands beside it.
      return form === 'owned' ? this.write('plain', there, counted) : 'written';
    }
    if (failure === ERRNO.EPERM) return NOT_PERMITTED;
    // Flags that the kernel does not know: EINVAL before 5.12, EOPNOTSUPP since.
    if (form !== 'plain' && (failure === ERRNO.EINVAL || failure === ERRNO.EOPNOTSUPP)) return 'unknown-form';
    return `the kernel refused it (${new KernelError('nf_tables', failure).code})`;
  }

  /** Counts what it can: that a kernel does not know how to look into a packet, or does not take what was counted, must not keep the drops from it. */
  private send(form: GuardForm, replaces: boolean, counted: CountTable | undefined): number | undefined {
    const [counting = 'simple', ...simpler] = this.countings;
    const wish: GuardWish = { form, counting, act: this.act };
    const carried = counted && knowsElements(wish) ? carriedCounts(counted, counting) : NOTHING_CARRIED;
    let results: readonly number[];
    try {
      ({ results } = this.requests.ask(...guardBatch(wish, replaces, carried)));
    } catch (error) {
      // Too much for the socket, or for the memory that is left.
      if (carried !== NOTHING_CARRIED && error instanceof KernelError) return this.send(form, replaces, undefined);
      throw error;
    }
    const failedAt = results.findIndex((errno) => errno !== 0);
    const failure = results[failedAt];
    if (failure === undefined || failure === ERRNO.EPERM) return failure;
    switch (refusedPart(failedAt, wish, replaces)) {
      case 'table':
        return failure;
      case 'counting':
        if (simpler.length === 0) return failure;
        this.countings = simpler;
        return this.send(form, replaces, counted);
      case 'elements':
        return carried === NOTHING_CARRIED ? failure : this.send(form, replaces, undefined);
    }
  }

  /**
   * By the table that has counted for longest, whoever wrote it: the one with an owner, where that is us. Who asks between this and
   * the new table, a few milliseconds, is not counted. A repair does not wait for what a pod can fill: to read that takes some 50 ms.
   */
  private counted(there: readonly TableState[], isRepair: boolean): CountTable | undefined {
    const [table] = there.filter(({ owner }) => owner === undefined || owner === this.port).sort((a, b) => Number(b.owner !== undefined) - Number(a.owner !== undefined));
    try {
      return table && readCountTable(this.requests, table, isRepair ? isShortCountSet : undefined);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      return undefined;
    }
  }

  private tables(): TableState[] {
    const found: TableState[] = [];
    const failed = this.requests.list(listTables(), (message) => {
      const table = readTable(message);
      if (table?.family === 'inet' && GUARD_TABLES.has(table.name)) found.push(table);
    });
    if (typeof failed === 'number') throw new KernelError('nf_tables', failed);
    return found;
  }
}

/** An older kernel takes no notice of an element's time (5.3) and counter (5.7): as if everybody had asked just now, and never again. */
const knowsElements = ({ form, counting }: GuardWish): boolean => counting === 'full' || form !== 'plain';

type Requests = Pick<NetlinkRequests, 'ask' | 'list' | 'close' | 'fd' | 'port'>;

const NOT_PERMITTED = 'not permitted: CAP_NET_ADMIN is needed';
/** NFPROTO_IPV4 */
const IPV4 = 2;

function addDropped({ body }: Message, dropped: { ipv4: number; ipv6: number }): void {
  const { family, drops, packets } = readGuardRule(body);
  if (drops) dropped[family] += packets;
}

/** A rule of our forward chain: `ip daddr … counter drop`, or a reset. */
function readGuardRule(body: Buffer): { readonly family: 'ipv4' | 'ipv6'; readonly drops: boolean; readonly packets: number } {
  const expressions = expressionsOf(attributesOf(body, 4).get(RULE.EXPRESSIONS));
  const asked = expressions.findIndex((one) => loadedMeta(one) === META.NFPROTO);
  return {
    family: asked >= 0 && comparison(expressions[asked + 1]!)?.value[0] === IPV4 ? 'ipv4' : 'ipv6',
    drops: expressions.some((one) => verdictOf(one)?.code === 0 || one.name === 'reject'),
    packets: expressions.reduce((sum, one) => sum + Number(packetsOf(one) ?? 0n), 0),
  };
}
