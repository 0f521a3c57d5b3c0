import type { Family } from './sets/address.ts';

/** Which of the kernel's two iptables implementations: nf_tables (`iptables-nft`) or x_tables (`iptables-legacy`). */
export type Backend = 'nft' | 'legacy';

/** What `iptables-save` printed, or what `iptables-restore` is to read. */
export interface Ruleset {
  readonly family: Family;
  readonly backend: Backend;
  readonly tables: ReadonlyMap<string, Table>;
  /** Lines that stand outside any table and cannot be read. */
  readonly unread: readonly UnreadLine[];
  /** Lines that begin with `#`, without it. */
  readonly notes: readonly string[];
}

export interface Table {
  readonly name: string;
  /** 'incompatible': the table holds nftables rules that iptables-nft cannot show; its contents are not known. */
  readonly state: 'read' | 'incompatible';
  readonly chains: ReadonlyMap<string, Chain>;
  /** Lines inside the table that cannot be read and belong to no chain that could be told. */
  readonly unread: readonly UnreadLine[];
}

export interface Chain {
  readonly name: string;
  /** Only the kernel's own chains have one; undefined where the text does not say. */
  readonly policy: string | undefined;
  readonly counters: Counters | undefined;
  /** False for a chain that has rules in the text but no line of its own (an excerpt). */
  readonly declared: boolean;
  readonly rules: readonly Rule[];
}

/**
 * A rule as its words, quotes and escapes undone: lossless, and cheap for the fifty thousand rules that nobody asks
 * about. `readRule` gives the words a meaning.
 */
export interface Rule {
  readonly chain: string;
  /** Everything after `-A CHAIN`. */
  readonly words: readonly string[];
  /** Indexes of words that were in quotes though they begin like an option: values, never options. */
  readonly quoted: ReadonlySet<number> | undefined;
  readonly counters: Counters | undefined;
  /** The line the words were cut from, without `-A CHAIN `, where it is at hand. */
  readonly uncut?: string;
}

export interface Counters {
  readonly packets: bigint;
  readonly bytes: bigint;
}

export interface UnreadLine {
  /** From 1. */
  readonly line: number;
  readonly text: string;
  readonly because: string;
}

/** The hook each kernel chain is called at (iptables(8), TABLES). */
export const KERNEL_CHAINS = {
  PREROUTING: 'prerouting',
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
  POSTROUTING: 'postrouting',
} as const;

export const isKernelChain = (name: string): name is keyof typeof KERNEL_CHAINS => Object.hasOwn(KERNEL_CHAINS, name);

/**
 * The tables, each with its chains' priority at every hook (uapi/linux/netfilter_ipv4.h, enum nf_ip_hook_priorities).
 * iptables-nft makes its security chains at 150 (measured, 1.8.9), where the kernel's own are at 50.
 */
export const priorityOf = (table: string, chain: keyof typeof KERNEL_CHAINS, backend: Backend): number | undefined =>
  table === 'security' && backend === 'nft' ? 150 : TABLE_PRIORITY[table]?.[chain];

export const TABLE_PRIORITY: Readonly<Record<string, Readonly<Partial<Record<keyof typeof KERNEL_CHAINS, number>>>>> = {
  raw: { PREROUTING: -300, OUTPUT: -300 },
  mangle: { PREROUTING: -150, INPUT: -150, FORWARD: -150, OUTPUT: -150, POSTROUTING: -150 },
  nat: { PREROUTING: -100, INPUT: 100, OUTPUT: -100, POSTROUTING: 100 },
  filter: { INPUT: 0, FORWARD: 0, OUTPUT: 0 },
  security: { INPUT: 50, FORWARD: 50, OUTPUT: 50 },
};
