import type { PacketClass } from '../packet/packet-class.ts';
import type { Test } from '../packet/test.ts';

/** What a rule does to a packet that its matches take. */
export type Action =
  | { readonly do: 'nothing' }
  /** `translates`: the packet goes on under another source, which later chains see and the conversation does not. */
  | { readonly do: 'accept'; readonly translates?: 'source' }
  | { readonly do: 'drop'; readonly how: string }
  | { readonly do: 'return' }
  | { readonly do: 'jump' | 'goto'; readonly chain: string }
  /** `field = (field & ~mask) ^ value` */
  | { readonly do: 'xmark'; readonly on: 'mark' | 'connmark'; readonly value: number; readonly mask: number }
  /** One mark from the other: `to = (to & ~toMask) ^ (from & fromMask)` */
  | { readonly do: 'copy-mark'; readonly to: 'mark' | 'connmark'; readonly toMask: number; readonly fromMask: number }
  /** A mark gets a value that no ruleset shows. */
  | { readonly do: 'blur'; readonly on: 'mark' | 'connmark' }
  | { readonly do: 'notrack' }
  /** The packet goes on to somebody else, here or elsewhere (DNAT, REDIRECT, TPROXY). Ends the base chain. */
  | { readonly do: 'redirect'; readonly to: string }
  /** May do anything, or leave the packet to a program (NFQUEUE). */
  | { readonly do: 'unread'; readonly why: string };

/**
 * A rule, read: its test, its action, and what comes after in the same rule (nft mixes matches and statements). When a
 * test fails the packet goes on with the next rule, and keeps what earlier actions of this rule did to it.
 */
export interface Program {
  readonly test: Test;
  readonly act: Action;
  readonly then?: Program;
}

/** Where a rule or chain stands. */
export interface Place {
  /** 'nft-native' is a table that iptables-nft does not own. */
  readonly backend: 'nft' | 'legacy' | 'nft-native';
  /** The family of the table: ip, ip6, inet. */
  readonly family: 'ip' | 'ip6' | 'inet' | 'bridge' | 'arp' | 'netdev';
  readonly table: string;
}

/** A rule that can be walked. */
export interface TracedRule {
  readonly place: Place;
  readonly chain: string;
  /** From 1, as `iptables -L --line-numbers` counts. 0: not a rule in the list, but a policy or a gap in the text. */
  readonly number: number;
  /** As it reads to a person: `-A FORWARD …`, or the nft words. */
  readonly text: string;
  /** What the rule does, in order; several where one nft rule is a map of verdicts. Read when first asked. */
  readonly programs: readonly Program[];
  /** A glance that may settle, before the rule is read, that it takes no packet of the class. Never wrong when true. */
  readonly misses?: (packet: PacketClass) => boolean;
  /** A glance that may settle, before the rule is read, that it marks no packet and calls no chain. */
  readonly leavesAlone?: boolean;
}

export interface TracedChain {
  readonly name: string;
  readonly place: Place;
  readonly rules: readonly TracedRule[];
  /** The rules without those that certainly take no packet of the class: one destination or one source, nothing else. */
  readonly rulesFor?: (packet: PacketClass) => readonly TracedRule[];
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

/** A chain that the kernel calls by itself. */
export interface BaseChain extends TracedChain {
  readonly hook: Hook;
  readonly priority: number;
  readonly type: 'filter' | 'nat' | 'route';
  /** The policy as its last rule. */
  readonly policy: TracedRule;
  /** The chain that a jump from this table's rules goes to. */
  readonly chainNamed: (name: string) => TracedChain | undefined;
}
