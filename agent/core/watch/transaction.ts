import type { NftFamily } from 'node-iptables';
import { type NftEvent, RULE, attributesOf, handleOf, mayConcern, plainRuleText } from 'node-iptables/netlink';
import { IMDS_DESTINATIONS, type Outlook, type OwnRule, chainKey, ownKey, tableKey } from './outlook.ts';

/** What one batch of somebody's changes did, as far as packets to IMDS care. */
export interface Transaction {
  readonly generation: number;
  readonly pid: number;
  readonly process: string;
  /** The socket that it came by: ours are known. */
  readonly port: number;
  /** Rules of ours that it took away and did not write again, with the bytes that the kernel told of them. */
  readonly lost: readonly LostRule[];
  /** Rules of ours that it wrote, and how the kernel calls them. */
  readonly wrote: readonly WrittenRule[];
  /** The names of tables of our own that it touched. */
  readonly guards: readonly string[];
  /** Chains on the path in which a rule changed that may concern a packet to IMDS: the same as before, or not? */
  readonly chains: readonly ChangedChain[];
  /** Chains in which a rule of ours is to be the first, and somebody else's now is. */
  readonly above: readonly ChangedChain[];
  /** A table or a base chain came, went, or changed. */
  readonly structure: boolean;
  /** Something that certainly matters, in words. */
  readonly matters: readonly string[];
}

export interface LostRule {
  readonly rule: OwnRule;
  readonly attributes: Buffer;
}
export interface WrittenRule {
  readonly rule: OwnRule;
  readonly handle: bigint;
}
export interface ChangedChain {
  readonly family: NftFamily;
  readonly table: string;
  readonly chain: string;
}

export const isRelevant = (transaction: Transaction): boolean =>
  transaction.lost.length > 0 || transaction.guards.length > 0 || transaction.chains.length > 0 || transaction.above.length > 0 || transaction.structure || transaction.matters.length > 0;

/** Gathers events until the one that ends their batch. */
export class TransactionReader {
  outlook: Outlook;
  /** Tables of ours, by name; none where there is to be no guard table. */
  guardTables: ReadonlySet<string>;
  private lost: LostRule[] = [];
  private wrote: WrittenRule[] = [];
  private readonly guards = new Set<string>();
  private readonly chains = new Map<string, ChangedChain>();
  private readonly above = new Map<string, ChangedChain>();
  private structure = false;
  private readonly matters = new Set<string>();

  constructor(outlook: Outlook, guardTables: ReadonlySet<string>) {
    this.outlook = outlook;
    this.guardTables = guardTables;
  }

  /** A batch when this event ends one. */
  read(event: NftEvent): Transaction | undefined {
    if (event.is === 'generation') return this.end(event);
    if (event.family === 'inet' && this.guardTables.has(event.table)) {
      this.guards.add(event.table);
      return undefined;
    }
    switch (event.is) {
      case 'rule':
        this.rule(event);
        return undefined;
      case 'chain':
        if (event.hook !== undefined) this.structure = true;
        else if (event.change === 'deleted') this.changed(event);
        return undefined;
      case 'table':
        this.structure = true;
        return undefined;
      case 'flowtable':
        this.matters.add(`flowtable ${event.family} ${event.table} ${event.name}`);
        return undefined;
      case 'element':
        this.element(event);
        return undefined;
      case 'set':
        // A set does nothing until a rule names it.
        return undefined;
    }
  }

  private rule(event: Extract<NftEvent, { is: 'rule' }>): void {
    const { family, table, chain, attributes } = event;
    const named = namesImds(attributes);
    const own = named ? this.ownRule(event) : undefined;
    // A part of the datagram would keep all of it in memory.
    if (own && event.change === 'deleted') this.lost.push({ rule: own, attributes: Buffer.from(attributes) });
    else if (own) this.wrote.push({ rule: own, handle: handleOf(event) ?? 0n });
    // Also off the path: a translation of another address into that of IMDS is a way there.
    else if (named) this.matters.add(`a rule that names IMDS in ${family} ${table} ${chain}`);
    if (!own && event.change === 'new' && this.outlook.contested.has(chainKey(family, table, chain)) && isFirst(event)) this.above.set(chainKey(family, table, chain), { family, table, chain });
    if (this.isOnPath(event) && mayConcern(attributes, family, IMDS_DESTINATIONS)) this.changed(event);
  }

  private ownRule({ family, table, attributes }: Extract<NftEvent, { is: 'rule' }>): OwnRule | undefined {
    if (!this.outlook.ownInNft || (family !== 'ip' && family !== 'ip6') || (table !== 'filter' && table !== 'mangle')) return undefined;
    const text = plainRuleText(attributes, family === 'ip' ? 'ipv4' : 'ipv6');
    return text === undefined ? undefined : this.outlook.own.get(ownKey(family, table, text));
  }

  private element({ family, table, name, attributes }: Extract<NftEvent, { name: string }>): void {
    if (this.outlook.pathTables && !this.outlook.pathTables.has(tableKey(family, table))) return;
    // The elements of an anonymous set come with the rule that has it.
    if (name.startsWith('__')) return;
    // kube-proxy's maps have an address for every service. One that is not ours can only matter where keys are ranges.
    if (table === 'kube-proxy' && POINT_SETS.test(name) && !namesImds(attributes)) return;
    this.matters.add(`set ${family} ${table} ${name}`);
  }

  private changed({ family, table, chain }: ChangedChain): void {
    if (this.isOnPath({ family, table, chain })) this.chains.set(chainKey(family, table, chain), { family, table, chain });
  }

  private isOnPath({ family, table, chain }: ChangedChain): boolean {
    return ON_A_PATH.has(family) && (this.outlook.path === undefined || this.outlook.path.has(chainKey(family, table, chain)));
  }

  private end({ id, pid, process, port }: Extract<NftEvent, { is: 'generation' }>): Transaction {
    for (const { rule: again } of this.wrote) {
      const at = this.lost.findIndex(({ rule }) => rule === again);
      if (at >= 0) this.lost.splice(at, 1);
    }
    const done: Transaction = {
      generation: id, pid, process, port,
      lost: this.lost,
      wrote: this.wrote,
      guards: [...this.guards],
      chains: [...this.chains.values()],
      above: [...this.above.values()],
      structure: this.structure,
      matters: [...this.matters],
    };
    this.lost = [];
    this.wrote = [];
    this.guards.clear();
    this.chains.clear();
    this.above.clear();
    this.structure = false;
    this.matters.clear();
    return done;
  }
}

/** Whether the address of IMDS is among the bytes: as a match, as a translation, as an element of a set. */
const namesImds = (attributes: Buffer): boolean => attributes.includes(IMDS_DESTINATIONS.ipv4) || attributes.includes(IMDS_DESTINATIONS.ipv6);

/** The kernel names the rule before it, unless it is the first or the last (nf_tables_rule_notify, NFTA_RULE_POSITION). */
const isFirst = ({ attributes, appended }: Extract<NftEvent, { is: 'rule' }>): boolean => !appended && !attributesOf(attributes).has(RULE.POSITION);

const ON_A_PATH: ReadonlySet<NftFamily> = new Set(['ip', 'ip6', 'inet', 'bridge', 'netdev']);

/** Sets of kube-proxy in nftables mode whose first key is one address, never a range (pkg/proxy/nftables/proxier.go). */
const POINT_SETS = /^(cluster-ips|service-ips|no-endpoint-services|firewall-ips|nodeport-ips|affinity-.*|hairpin-connections)$/;
