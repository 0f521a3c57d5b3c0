import { KERNEL_CHAINS, type Ruleset, TABLE_PRIORITY } from '../model.ts';
import type { Hook, NativeSet, Statement } from './nft-script.ts';
import { ruleExpressions } from './nft-rule.ts';

export interface NativeTable {
  readonly family: string;
  readonly name: string;
  readonly sets: ReadonlyMap<string, NativeSet>;
  readonly chains: ReadonlyMap<string, NativeChain>;
}

export interface NativeChain {
  readonly hook: Hook | undefined;
  /** Each as its words. */
  readonly rules: readonly (readonly string[])[];
}

/** What nf_tables holds: the tables of iptables-nft, one ruleset a family, and everybody else's. */
export interface NftState {
  readonly ip: Ruleset;
  readonly ip6: Ruleset;
  readonly native: readonly NativeTable[];
}

export type NftApplied = { readonly state: NftState } | { readonly refused: string } | { readonly unknown: string };

/** The whole script or nothing of it. */
export function applyStatements(before: NftState, statements: readonly Statement[]): NftApplied {
  let state = before;
  for (const statement of statements) {
    const applied = applyStatement(state, statement);
    if (!('state' in applied)) return applied;
    state = applied.state;
  }
  return { state };
}

function applyStatement(state: NftState, statement: Statement): NftApplied {
  if (statement.do === 'flush-ruleset') {
    return { state: { ip: { ...state.ip, tables: new Map() }, ip6: { ...state.ip6, tables: new Map() }, native: [] } };
  }
  const { family, table: name } = statement;
  if (isOfIptables(family, name)) return onIptablesTable(state, family, statement);
  const table = state.native.find((one) => one.family === family && one.name === name);
  switch (statement.do) {
    case 'create-table':
      if (table) return { refused: 'Could not process rule: File exists' };
      return { state: withTable(state, { family, name, sets: new Map(), chains: new Map() }) };
    case 'add-table':
      return { state: table ? state : withTable(state, { family, name, sets: new Map(), chains: new Map() }) };
    case 'delete-table':
      if (!table) return { refused: NOT_THERE };
      return { state: { ...state, native: state.native.filter((one) => one !== table) } };
    case 'add-set':
      if (!table) return { refused: NOT_THERE };
      return { state: withTable(state, { ...table, sets: new Map(table.sets).set(statement.set.name, table.sets.get(statement.set.name) ?? statement.set) }) };
    case 'add-chain': {
      if (!table) return { refused: NOT_THERE };
      const known = table.chains.get(statement.chain);
      return { state: withTable(state, { ...table, chains: new Map(table.chains).set(statement.chain, known ?? { hook: statement.hook, rules: [] }) }) };
    }
    case 'add-rule': {
      const chain = table?.chains.get(statement.chain);
      if (!table || !chain) return { refused: NOT_THERE };
      if (!ruleExpressions(statement.words)) return { unknown: statement.words.join(' ') };
      if (statement.words.some((word) => /^@[\w-]+$/.test(word) && !table.sets.has(word.slice(1)))) return { refused: 'No such file or directory' };
      return { state: withTable(state, { ...table, chains: new Map(table.chains).set(statement.chain, { ...chain, rules: [...chain.rules, statement.words] }) }) };
    }
  }
}

const NOT_THERE = 'Could not process rule: No such file or directory';

const isOfIptables = (family: string, table: string): family is 'ip' | 'ip6' => (family === 'ip' || family === 'ip6') && Object.hasOwn(TABLE_PRIORITY, table);

/** A native rule in a chain of iptables-nft is what makes the table 'incompatible'; its rules go on working, unseen. */
function onIptablesTable(state: NftState, family: 'ip' | 'ip6', statement: Exclude<Statement, { do: 'flush-ruleset' }>): NftApplied {
  const ruleset = state[family];
  const tables = new Map(ruleset.tables);
  const table = tables.get(statement.table);
  if (!table) return { refused: NOT_THERE };
  if (statement.do === 'delete-table') tables.delete(statement.table);
  else if (statement.do !== 'add-rule') return { unknown: `${statement.do} ${family} ${statement.table}` };
  else if (!table.chains.has(statement.chain)) return { refused: NOT_THERE };
  else tables.set(statement.table, { ...table, state: 'incompatible' });
  return { state: { ...state, [family]: { ...ruleset, tables } } };
}

function withTable(state: NftState, table: NativeTable): NftState {
  const at = state.native.findIndex((one) => one.family === table.family && one.name === table.name);
  return { ...state, native: at < 0 ? [...state.native, table] : state.native.with(at, table) };
}

/** As nft takes its arguments: it puts a blank between them and reads the whole. */
const wordsOf = (what: readonly string[]): readonly string[] => what.join(' ').split(' ');

/** `nft -j list chains`, `list tables`, `list table FAMILY NAME`; undefined for what the fake cannot list. It holds no flowtables. */
export function listJson(state: NftState, what: readonly string[]): string | { readonly refused: string } | undefined {
  const words = wordsOf(what);
  const [verb, noun, family, name] = words;
  if (verb !== 'list') return undefined;
  if (/^list chains(; list flowtables)?$/.test(words.join(' '))) return asJson([...iptablesChains('ip', state.ip), ...iptablesChains('ip6', state.ip6), ...state.native.flatMap(chainsOf)]);
  if (noun === 'tables' && words.length === 2) return asJson([...namesOf('ip', state.ip), ...namesOf('ip6', state.ip6), ...state.native.map(({ family: of, name: called }) => tableJson(of, called))]);
  if (noun !== 'table' || words.length !== 4 || isOfIptables(family!, name!)) return undefined;
  const table = state.native.find((one) => one.family === family && one.name === name);
  return table ? asJson([tableJson(table.family, table.name), ...setsOf(table), ...chainsOf(table), ...rulesOf(table)]) : { refused: 'No such file or directory' };
}

/** `nft list table FAMILY NAME`, as it is printed. */
export function listText(state: NftState, what: readonly string[]): string | { readonly refused: string } | undefined {
  const words = wordsOf(what);
  const [verb, noun, family, name] = words;
  if (verb !== 'list' || noun !== 'table' || words.length !== 4 || isOfIptables(family!, name!)) return undefined;
  const table = state.native.find((one) => one.family === family && one.name === name);
  return table ? tableText(table) : { refused: 'No such file or directory' };
}

export function tableText({ family, name, sets, chains }: NativeTable): string {
  const blocks = [
    ...[...sets.values()].map(({ name: set, type, size, flags, timeoutHours, elements }) => [
      `\tset ${set} {`,
      `\t\ttype ${type.join(' . ')}`,
      ...(size === undefined ? [] : [`\t\tsize ${size}`]),
      // That it has a time tells that it may.
      ...(flags.length === 0 || flags.join() === 'timeout' ? [] : [`\t\tflags ${flags.join(',')}`]),
      ...(timeoutHours === undefined ? [] : [`\t\ttimeout ${timeText(timeoutHours)}`]),
      ...(elements.length === 0 ? [] : [`\t\telements = { ${elements.map((name) => `"${name}"${timeoutHours === undefined ? '' : ` expires ${timeText(timeoutHours)}`}`).join(', ')} }`]),
      '\t}',
    ]),
    ...[...chains].map(([chain, { hook, rules }]) => [
      `\tchain ${chain} {`,
      ...(hook ? [`\t\ttype ${hook.type} hook ${hook.hook} priority ${hook.prio}; policy ${hook.policy};`] : []),
      ...rules.map((words) => `\t\t${words.join(' ').replace(/ counter(?! })/g, ' counter packets 0 bytes 0')}`),
      '\t}',
    ]),
  ];
  return `table ${family} ${name} {\n${blocks.map((block) => `${block.join('\n')}\n`).join('\n')}}\n`;
}

const timeText = (hours: number): string => (hours % 24 === 0 ? `${hours / 24}d` : `${hours}h`);

const METAINFO = { metainfo: { version: '1.0.6', release_name: 'Lester Gooch #5', json_schema_version: 1 } };
const asJson = (items: readonly object[]): string => `${JSON.stringify({ nftables: [METAINFO, ...items] })}\n`;
/** Handles are not kept, for nothing here can be addressed by one; but those of rules differ, as the kernel's do. */
const tableJson = (family: string, name: string): object => ({ table: { family, name, handle: 0 } });
const namesOf = (family: string, ruleset: Ruleset): object[] => [...ruleset.tables.keys()].map((name) => tableJson(family, name));

/** nft 1.0.6 leaves `dynamic` out, and a flag that stands alone is a list of one. */
const setsOf = ({ family, name, sets }: NativeTable): object[] =>
  [...sets.values()].map(({ name: set, type, size, flags, timeoutHours, elements }) => ({
    set: {
      family, name: set, table: name, type: type.length === 1 ? type[0] : type, handle: 0,
      ...(size === undefined ? {} : { size }),
      flags: flags.filter((flag) => flag !== 'dynamic'),
      ...(timeoutHours === undefined ? {} : { timeout: timeoutHours * 3600 }),
      ...(elements.length === 0 ? {} : { elem: elements.map((val) => (timeoutHours === undefined ? val : { elem: { val, expires: timeoutHours * 3600 } })) }),
    },
  }));

const chainsOf = ({ family, name, chains }: NativeTable): object[] =>
  [...chains].map(([chain, { hook }]) => ({ chain: { family, table: name, name: chain, handle: 0, ...hook } }));

const rulesOf = ({ family, name, chains }: NativeTable): object[] =>
  [...chains]
    .flatMap(([chain, { rules }]) => rules.map((words) => ({ chain, words })))
    .map(({ chain, words }, at) => ({ rule: { family, table: name, chain, handle: at + 1, expr: ruleExpressions(words) } }));

/** All kernel chains of a table; iptables-nft itself makes each of them only when it is first written to. */
function iptablesChains(family: string, ruleset: Ruleset): object[] {
  return [...ruleset.tables.values()].flatMap((table) =>
    [...table.chains.values()].map(({ name, policy }) => ({
      chain: { family, table: table.name, name, handle: 0, ...(policy === undefined ? {} : baseChain(table.name, name as keyof typeof KERNEL_CHAINS, policy)) },
    })),
  );
}

/** As iptables-nft makes them (nft.c, xtables_ipv4): security stands at 150 there, not at the 50 it has in x_tables. */
const baseChain = (table: string, chain: keyof typeof KERNEL_CHAINS, policy: string): Hook => ({
  type: table === 'nat' ? 'nat' : table === 'mangle' && chain === 'OUTPUT' ? 'route' : 'filter',
  hook: KERNEL_CHAINS[chain],
  prio: table === 'security' ? 150 : (TABLE_PRIORITY[table]?.[chain] ?? 0),
  policy: policy.toLowerCase(),
});
