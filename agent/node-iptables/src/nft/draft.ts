import type { UnreadLine } from '../model.ts';
import type { NftChain, NftFamily, NftFlowtable, NftRule, NftRuleset, NftSet, NftTable } from './model.ts';

/** A ruleset while it is being read; both readers fill one. */
export class Draft {
  readonly unread: UnreadLine[] = [];
  /** Whether the one flag that JSON gives a table is its flag. */
  tellsFlags = false;
  private readonly tables = new Map<string, DraftTable>();

  table(family: NftFamily, name: string): DraftTable {
    const key = `${family} ${name}`;
    let table = this.tables.get(key);
    if (!table) this.tables.set(key, (table = new DraftTable(family, name)));
    return table;
  }

  done(): NftRuleset {
    return { tables: [...this.tables.values()], unread: this.unread };
  }
}

export class DraftTable implements NftTable {
  readonly family: NftFamily;
  readonly name: string;
  dormant: NftTable['dormant'] = 'no';
  owned: NftTable['owned'] = 'no';
  readonly chains = new Map<string, DraftChain>();
  readonly sets = new Map<string, NftSet>();
  readonly flowtables = new Map<string, NftFlowtable>();
  constructor(family: NftFamily, name: string) {
    this.family = family;
    this.name = name;
  }

  chain(name: string): DraftChain {
    let chain = this.chains.get(name);
    if (!chain) this.chains.set(name, (chain = new DraftChain(name)));
    return chain;
  }
}

/** What flags say of a table; flags that are none, or not known, say nothing. */
export function tableFlags(flags: readonly string[] | undefined): Pick<NftTable, 'dormant' | 'owned'> {
  if (!flags?.every((flag) => FLAGS.has(flag))) return { dormant: 'unknown', owned: 'unknown' };
  return { dormant: flags.includes('dormant') ? 'yes' : 'no', owned: flags.includes('owner') ? 'yes' : 'no' };
}
const FLAGS: ReadonlySet<string> = new Set(['dormant', 'owner', 'persist']);

export class DraftChain implements NftChain {
  readonly name: string;
  type: string | undefined;
  hook: string | undefined;
  priority: number | undefined;
  policy: string | undefined;
  devices: readonly string[] = [];
  readonly rules: NftRule[] = [];
  /** Kernel handles of the rules, so that a rule listed twice is held once. */
  readonly handles = new Set<number>();
  constructor(name: string) {
    this.name = name;
  }
}
