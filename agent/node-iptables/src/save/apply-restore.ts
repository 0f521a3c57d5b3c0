import { type Backend, type Chain, KERNEL_CHAINS, type Rule, type Ruleset, TABLE_PRIORITY, type Table } from '../model.ts';
import type { Family } from '../sets/address.ts';
import { readRule, ruleText } from './read-rule.ts';
import { NO_DROP, type Refusal, isKernelChainOf, misplacedTarget, refusedChainName, refusedRule } from './refused.ts';
import { splitWords } from './words.ts';

export type Applied =
  | { readonly ruleset: Ruleset }
  /** Line `line` (from 1) was refused: its table is as it was, tables committed before it are not. */
  | { readonly refused: string; readonly line: number; readonly ruleset: Ruleset };

/**
 * What `iptables-restore --noflush` makes of a ruleset: all lines up to COMMIT or none, table by table. Refuses what
 * iptables 1.8.9 and Linux refuse (measured, both backends), in the program's words where it has any. Stricter than they
 * in this: a rule with words that no option table knows is refused, for it is more likely a mistake than news; so is
 * a quotation mark that is not closed (iptables-restore makes a comment of the rest of the line, line break included).
 */
export function applyRestore(ruleset: Ruleset, payload: string): Applied {
  const restore = new Restore(ruleset);
  const lines = payload.split('\n');
  if (lines.at(-1) === '') lines.pop();
  for (let at = 0; at < lines.length; at++) {
    const refused = restore.line(lines[at]!, at + 1);
    if (refused !== undefined) return { refused, line: restore.blamed ?? at + 1, ruleset: restore.ruleset() };
  }
  if (restore.isOpen) return { refused: 'COMMIT expected', line: lines.length + 1, ruleset: restore.ruleset() };
  return { ruleset: restore.ruleset() };
}

/** The table as it is before anybody touched it: its kernel chains, accepting. */
export function untouchedTable(name: string): Table {
  const chains = new Map<string, Chain>();
  for (const chain of Object.keys(KERNEL_CHAINS)) {
    if (isKernelChainOf(name, chain)) chains.set(chain, { name: chain, policy: 'ACCEPT', counters: undefined, declared: true, rules: [] });
  }
  return { name, state: 'read', chains, unread: [] };
}

interface OpenChain extends Chain {
  policy: string | undefined;
  rules: Rule[];
}

interface OpenTable {
  readonly name: string;
  readonly chains: Map<string, OpenChain>;
  /** Whether any line asked for a change: iptables-nft makes a table only then, iptables-legacy always. */
  touched: boolean;
  /** Rules that the kernel will not have in this table. It is asked at COMMIT only. */
  misplaced: readonly Misplaced[];
}

interface Misplaced {
  readonly rule: Rule;
  readonly line: number;
  readonly why: string;
}

class Restore {
  private readonly before: Ruleset;
  private readonly family: Family;
  private readonly backend: Backend;
  private tables: Map<string, Table>;
  private table: OpenTable | undefined;
  private number = 0;
  /** The line at fault, where that is not the one at which the refusal came. */
  blamed: number | undefined;

  constructor(ruleset: Ruleset) {
    this.before = ruleset;
    this.family = ruleset.family;
    this.backend = ruleset.backend;
    this.tables = new Map(ruleset.tables);
  }

  get isOpen(): boolean {
    return this.table !== undefined;
  }

  ruleset(): Ruleset {
    return { ...this.before, tables: inSaveOrder(this.tables, this.backend) };
  }

  line(line: string, number: number): Refusal {
    this.number = number;
    if (line === '' || line.startsWith('#')) return undefined;
    if (!this.table) return line.startsWith('*') ? this.open(line.slice(1).trimEnd()) : `not inside a table: ${line}`;
    if (line === 'COMMIT') return this.commit(this.table);
    if (line.startsWith(':')) return this.chainLine(this.table, line.slice(1));
    return this.change(this.table, line);
  }

  private open(name: string): Refusal {
    if (!Object.hasOwn(TABLE_PRIORITY, name)) return `there is no table ${name}`;
    // x_tables makes the table when it is asked for, whatever becomes of the payload.
    if (this.backend === 'legacy' && !this.tables.has(name)) this.tables = new Map([[name, untouchedTable(name)], ...this.tables]);
    const { chains } = this.tables.get(name) ?? untouchedTable(name);
    this.table = { name, touched: false, misplaced: [], chains: new Map([...chains].map(([at, chain]) => [at, { ...chain, rules: [...chain.rules] }])) };
    return undefined;
  }

  private commit(table: OpenTable): Refusal {
    // x_tables gets the table as it is in the end; nf_tables every rule that was added, but for those flushed again, which
    // iptables-nft does not send.
    const misplaced = table.misplaced.find(({ rule }) => this.backend === 'nft' || table.chains.get(rule.chain)?.rules.includes(rule));
    this.blamed = misplaced?.line;
    if (misplaced) return misplaced.why;
    const loop = loopIn(table, this.family);
    if (loop !== undefined) return `Too many links: the chain ${loop} leads to itself`;
    const known = this.tables.get(table.name);
    if (known || table.touched) {
      const chains = inChainOrder(table);
      this.tables.set(table.name, { ...(known ?? untouchedTable(table.name)), chains });
    }
    this.table = undefined;
    return undefined;
  }

  /** `:OURS - [0:0]`. The counters are ignored without --counters. */
  private chainLine(table: OpenTable, text: string): Refusal {
    const [name, policy] = text.split(/[ \t]+/);
    if (!name) return 'a chain line without a chain';
    if (!policy) return 'policy invalid';
    if (isKernelChainOf(table.name, name)) return policy === '-' ? this.touch(table) : this.setPolicy(table, name, policy);
    // iptables-nft ignores the policy of a user chain.
    if (policy !== '-' && this.backend === 'legacy') return `Can't set policy \`${policy}' on \`${name}': Bad built-in chain name`;
    const refused = refusedChainName(name);
    if (refused !== undefined) return refused;
    table.chains.set(name, userChain(name));
    return this.touch(table);
  }

  private change(table: OpenTable, line: string): Refusal {
    // `[5:50] -A …`: ignored without --counters.
    const read = splitWords(line.replace(/^\[\d+:\d+\] /, ''));
    if ('broken' in read) return read.broken;
    const [verb, name, ...rest] = read.words;
    const quoted = read.quoted && new Set([...read.quoted].map((at) => at - 2));
    switch (VERBS[verb ?? '']) {
      case 'append':
        return this.insert(table, { chain: name ?? '', words: rest, quoted, counters: undefined }, 'at the end');
      case 'insert':
        return this.insert(table, { chain: name ?? '', words: rest, quoted, counters: undefined }, 'at a position');
      case 'delete':
        return this.delete(table, { chain: name ?? '', words: rest, quoted, counters: undefined });
      case 'replace':
        return this.replace(table, { chain: name ?? '', words: rest, quoted, counters: undefined });
      case 'check':
        return this.position(table, { chain: name ?? '', words: rest, quoted, counters: undefined }) === undefined ? NO_RULE : undefined;
      case 'flush':
        return this.flush(table, name);
      case 'remove':
        return this.remove(table, name);
      case 'create':
        return this.create(table, name ?? '');
      case 'policy':
        if (table.name === 'nat' && rest[0] === 'DROP') return NO_DROP;
        return this.setPolicy(table, name ?? '', rest[0] ?? '');
      case 'zero':
        return name === undefined || this.chainOf(table, name) ? undefined : NO_CHAIN;
      case undefined:
        return `Bad argument \`${verb ?? line}'`;
    }
  }

  /** An excerpt may lack a kernel chain; the kernel does not. */
  private chainOf(table: OpenTable, name: string): OpenChain | undefined {
    const known = table.chains.get(name);
    if (known || !isKernelChainOf(table.name, name)) return known;
    const fresh: OpenChain = { ...userChain(name), policy: 'ACCEPT' };
    table.chains.set(name, fresh);
    return fresh;
  }

  private insert(table: OpenTable, written: Rule, where: 'at the end' | 'at a position'): Refusal {
    const chain = this.chainOf(table, written.chain);
    if (!chain) return NO_CHAIN;
    const numbered = where === 'at a position' && isNumber(written.words[0]);
    const at = where === 'at the end' ? chain.rules.length + 1 : numbered ? Number(written.words[0]) : 1;
    if (at === 0) return "Invalid rule number `0'";
    const rule = withCounters(numbered ? withoutFirstWord(written) : written);
    const refused = refusedRule(rule, table.name, table.chains, this.family);
    if (refused !== undefined) return refused;
    if (at > chain.rules.length + 1) return 'Index of insertion too big';
    chain.rules.splice(at - 1, 0, rule);
    return this.added(table, rule);
  }

  private delete(table: OpenTable, written: Rule): Refusal {
    const chain = this.chainOf(table, written.chain);
    if (!chain) return NO_CHAIN;
    const numbered = written.words.length === 1 && isNumber(written.words[0]);
    const at = numbered ? Number(written.words[0]) - 1 : this.position(table, written);
    if (at === undefined) return NO_RULE;
    if (at < 0 || at >= chain.rules.length) return 'Index of deletion too big';
    chain.rules.splice(at, 1);
    return this.touch(table);
  }

  /** By what the rules mean, not by how they are written: iptables compares them parsed. */
  private position(table: OpenTable, wanted: Rule): number | undefined {
    const text = ruleText(wanted, this.family);
    const at = table.chains.get(wanted.chain)?.rules.findIndex((rule) => ruleText(rule, this.family) === text) ?? -1;
    return at < 0 ? undefined : at;
  }

  private replace(table: OpenTable, written: Rule): Refusal {
    const chain = this.chainOf(table, written.chain);
    if (!chain) return NO_CHAIN;
    const at = isNumber(written.words[0]) ? Number(written.words[0]) : 0;
    const rule = withCounters(withoutFirstWord(written));
    const refused = at === 0 ? '-R needs a rule number' : refusedRule(rule, table.name, table.chains, this.family);
    if (refused !== undefined) return refused;
    if (at > chain.rules.length) return 'Index of replacement too big';
    chain.rules[at - 1] = rule;
    return this.added(table, rule);
  }

  private flush(table: OpenTable, name: string | undefined): Refusal {
    const chain = name === undefined ? undefined : this.chainOf(table, name);
    if (name !== undefined && !chain) return NO_CHAIN;
    for (const emptied of chain ? [chain] : table.chains.values()) emptied.rules = [];
    table.misplaced = table.misplaced.filter(({ rule }) => chain !== undefined && rule.chain !== chain.name);
    // Seen: `-F FORWARD` makes the table on iptables-nft, a bare `-F` does not.
    return chain ? this.touch(table) : undefined;
  }

  private remove(table: OpenTable, name: string | undefined): Refusal {
    if (name !== undefined && !this.chainOf(table, name)) return NO_CHAIN;
    if (name !== undefined && isKernelChainOf(table.name, name)) return this.removeKernelChain(this.chainOf(table, name)!);
    const gone = name === undefined ? [...table.chains.keys()].filter((chain) => !isKernelChainOf(table.name, chain)) : [name];
    for (const chain of gone) {
      if (table.chains.get(chain)!.rules.length > 0) return `Directory not empty: the chain ${chain} has rules`;
      if (isReferenced(table, chain, this.family)) return `Too many links: the chain ${chain} is jumped to`;
    }
    for (const chain of gone) table.chains.delete(chain);
    return undefined;
  }

  /** iptables-nft lets go of a kernel chain that does nothing, and prints it all the same; iptables-legacy has no such thing. */
  private removeKernelChain(chain: OpenChain): Refusal {
    if (this.backend === 'legacy') return NO_CHAIN;
    return chain.rules.length > 0 || chain.policy !== 'ACCEPT' ? 'Directory not empty' : undefined;
  }

  private create(table: OpenTable, name: string): Refusal {
    const refused = refusedChainName(name);
    if (refused !== undefined) return refused;
    if (table.chains.has(name)) return 'Chain already exists';
    table.chains.set(name, userChain(name));
    return this.touch(table);
  }

  private setPolicy(table: OpenTable, name: string, policy: string): Refusal {
    if (!isKernelChainOf(table.name, name)) return 'Bad built-in chain name';
    if (policy !== 'ACCEPT' && policy !== 'DROP') return 'Bad policy name';
    this.chainOf(table, name)!.policy = policy;
    return this.touch(table);
  }

  private added(table: OpenTable, rule: Rule): undefined {
    const why = misplacedTarget(readRule(rule, this.family).target, table.name, this.backend);
    if (why !== undefined) table.misplaced = [...table.misplaced, { rule, line: this.number, why }];
    return this.touch(table);
  }

  private touch(table: OpenTable): undefined {
    table.touched = true;
  }
}

const VERBS: Readonly<Record<string, 'append' | 'insert' | 'delete' | 'replace' | 'check' | 'flush' | 'remove' | 'create' | 'policy' | 'zero' | undefined>> = {
  '-A': 'append', '--append': 'append',
  '-I': 'insert', '--insert': 'insert',
  '-D': 'delete', '--delete': 'delete',
  '-R': 'replace', '--replace': 'replace',
  '-C': 'check', '--check': 'check',
  '-F': 'flush', '--flush': 'flush',
  '-X': 'remove', '--delete-chain': 'remove',
  '-N': 'create', '--new-chain': 'create',
  '-P': 'policy', '--policy': 'policy',
  '-Z': 'zero', '--zero': 'zero',
};
const NO_CHAIN = 'No chain/target/match by that name';
const NO_RULE = 'Bad rule (does a matching rule exist in that chain?)';


const userChain = (name: string): OpenChain => ({ name, policy: undefined, counters: undefined, declared: true, rules: [] });
const isNumber = (word: string | undefined): boolean => word !== undefined && /^\d+$/.test(word);

const withoutFirstWord = (rule: Rule): Rule => ({
  ...rule,
  words: rule.words.slice(1),
  quoted: rule.quoted && new Set([...rule.quoted].map((at) => at - 1)),
});

/** `-c 3 180` inside a rule sets its counters, unlike the `[3:180]` before it. */
function withCounters(rule: Rule): Rule {
  const at = rule.words.findIndex((word, index) => (word === '-c' || word === '--set-counters') && !rule.quoted?.has(index));
  const [packets, bytes] = [rule.words[at + 1], rule.words[at + 2]];
  if (at < 0 || !isNumber(packets) || !isNumber(bytes)) return rule;
  return {
    ...rule,
    words: rule.words.toSpliced(at, 3),
    quoted: rule.quoted && new Set([...rule.quoted].map((index) => (index > at ? index - 3 : index))),
    counters: { packets: BigInt(packets!), bytes: BigInt(bytes!) },
  };
}

const targetOf = (rule: Rule, family: Family): string | undefined => {
  const { action } = readRule(rule, family);
  return action.do === 'jump' || action.do === 'goto' ? action.chain : undefined;
};

const isReferenced = (table: OpenTable, name: string, family: Family): boolean =>
  [...table.chains.values()].some((chain) => chain.rules.some((rule) => targetOf(rule, family) === name));

/** A chain that leads to itself and that a packet can reach; a loop that hangs in the air is let be, as the kernel does. */
function loopIn(table: OpenTable, family: Family): string | undefined {
  const done = new Set<string>();
  const walk = (name: string, above: ReadonlySet<string>): string | undefined => {
    if (above.has(name)) return name;
    if (done.has(name)) return undefined;
    for (const rule of table.chains.get(name)?.rules ?? []) {
      const target = rule.words.length === 0 ? undefined : targetOf(rule, family);
      const loop = target === undefined ? undefined : walk(target, new Set([...above, name]));
      if (loop !== undefined) return loop;
    }
    done.add(name);
    return undefined;
  };
  for (const name of table.chains.keys()) {
    const loop = isKernelChainOf(table.name, name) ? walk(name, new Set()) : undefined;
    if (loop !== undefined) return loop;
  }
  return undefined;
}

/** Kernel chains in hook order, then the others by their bytes: so both backends print them. */
function inChainOrder(table: OpenTable): ReadonlyMap<string, Chain> {
  const kernel = Object.keys(KERNEL_CHAINS).filter((name) => isKernelChainOf(table.name, name));
  const others = [...table.chains.keys()].filter((name) => !isKernelChainOf(table.name, name)).sort((one, other) => (one < other ? -1 : 1));
  const chains = new Map<string, Chain>();
  for (const name of [...kernel, ...others]) {
    const chain = table.chains.get(name);
    if (chain) chains.set(name, chain);
  }
  return chains;
}

/** iptables-nft-save has a fixed order (nft.h, enum nft_table_type); /proc/net/ip_tables_names has the newest first. */
const NFT_ORDER = ['mangle', 'security', 'raw', 'filter', 'nat'];

function inSaveOrder(tables: ReadonlyMap<string, Table>, backend: Backend): ReadonlyMap<string, Table> {
  const names = [...tables.keys()];
  if (backend === 'nft') names.sort((one, other) => NFT_ORDER.indexOf(one) - NFT_ORDER.indexOf(other));
  return new Map(names.map((name) => [name, tables.get(name)!]));
}
