import { type Backend, type Chain, type Rule, TABLE_PRIORITY } from '../model.ts';
import type { Family } from '../sets/address.ts';
import { readRule } from './read-rule.ts';
import { TARGETS } from './target-options.ts';
import { splitWords } from './words.ts';

/** Why a line was refused; undefined when it was not. */
export type Refusal = string | undefined;

export const NO_DROP = 'The "nat" table is not intended for filtering, the use of DROP is therefore inhibited.';

/** FORWARD is the kernel's in filter; in nat it is a name like any other. */
export const isKernelChainOf = (table: string, chain: string): boolean =>
  Object.hasOwn(TABLE_PRIORITY, table) && Object.hasOwn(TABLE_PRIORITY[table]!, chain);

/** Why a user chain may not be called so. Legacy takes a leading `-` or `!` in a `:` line; nobody should send one. */
export function refusedChainName(name: string): Refusal {
  if (name === '') return 'a chain without a name';
  // XT_EXTENSION_MAXNAMELEN is 29, with the NUL.
  if (byteLength(name) > 28) return `chain name \`${name}' too long (must be under 29 chars)`;
  if (name.startsWith('-') || name.startsWith('!')) return `chain name not allowed to start with \`${name[0]}'`;
  return Object.hasOwn(TARGETS, name) ? 'chain name may not clash with target name' : undefined;
}

export function refusedRule(rule: Rule, table: string, chains: ReadonlyMap<string, Chain>, family: Family): Refusal {
  const { action, target, text, unread } = readRule(rule, family);
  if (unread[0] !== undefined) return `cannot read \`${unread[0]}'`;
  if (target === 'DROP' && table === 'nat') return NO_DROP;
  return refusedInterfaces(text, rule.chain) ?? (action.do === 'jump' || action.do === 'goto' ? refusedJump(action.chain, table, chains) : undefined);
}

/** IFNAMSIZ is 16, with the NUL; `eni+` counts its plus. Which option may stand in which chain goes by the chain's name, in any table. */
function refusedInterfaces(text: string, chain: string): Refusal {
  const read = splitWords(text);
  const words = 'broken' in read ? [] : read.words.filter((word) => word !== '!');
  // Canonical text begins with -s, -d, -i, -o, in this order, so that what stands in a comment is not mistaken for one.
  for (let at = 0; ['-s', '-d', '-i', '-o'].includes(words[at] ?? ''); at += 2) {
    const [option, name = ''] = [words[at]!, words[at + 1]];
    if (option === '-s' || option === '-d') continue;
    if (name === '') return 'Empty interface is likely to be undesired';
    if (byteLength(name) > 15) return `interface name \`${name}' must be shorter than IFNAMSIZ (15)`;
    if (option === '-i' && (chain === 'OUTPUT' || chain === 'POSTROUTING')) return `Can't use -i with ${chain}`;
    if (option === '-o' && (chain === 'INPUT' || chain === 'PREROUTING')) return `Can't use -o with ${chain}`;
  }
  return undefined;
}

function refusedJump(chain: string, table: string, chains: ReadonlyMap<string, Chain>): Refusal {
  if (isKernelChainOf(table, chain)) return `${chain} is a chain of the kernel: nothing may jump to it`;
  return chains.has(chain) ? undefined : `there is no chain and no target ${chain}`;
}

export function misplacedTarget(target: string | undefined, table: string, backend: Backend): Refusal {
  if (target === undefined) return undefined;
  // The compat layer of nf_tables gives TRACE no table; x_tables keeps it in raw.
  if (target === 'TRACE') return table === 'raw' || backend === 'nft' ? undefined : 'TRACE belongs in the table raw';
  const home = Object.hasOwn(HOME, target) ? HOME[target] : undefined;
  return home === undefined || home === table ? undefined : `${target} belongs in the table ${home}`;
}

/** Targets that the kernel takes in one table only (the `.table` of each xt_target). Each was tried in every table, on both backends. */
const HOME: Readonly<Record<string, string>> = {
  REJECT: 'filter',
  SNAT: 'nat', DNAT: 'nat', MASQUERADE: 'nat', REDIRECT: 'nat', NETMAP: 'nat',
  CT: 'raw', NOTRACK: 'raw',
  TPROXY: 'mangle', TTL: 'mangle', HL: 'mangle', CHECKSUM: 'mangle', DSCP: 'mangle', TOS: 'mangle', ECN: 'mangle',
};

const byteLength = (text: string): number => new TextEncoder().encode(text).length;
