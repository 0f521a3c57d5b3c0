import type { UnreadLine } from '../model.ts';

/** What `nft list ruleset` printed, as JSON or as text. */
export interface NftRuleset {
  readonly tables: readonly NftTable[];
  /** What stands outside any table, or fits into none, and cannot be read. */
  readonly unread: readonly UnreadLine[];
}

export type NftFamily = 'ip' | 'ip6' | 'inet' | 'netdev' | 'bridge' | 'arp';
export const NFT_FAMILIES: readonly NftFamily[] = ['ip', 'ip6', 'inet', 'netdev', 'bridge', 'arp'];

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
  /**
   * Chains of a dormant table see no packet. Not known where JSON gives one flag and comes from an nft before 1.1.0: that one
   * wrote what lay in freed memory, `"flags": "Lester Gooch #5"`, and may break off there; its text is right.
   */
  readonly dormant: 'yes' | 'no' | 'unknown';
  /** Whether it belongs to a running program, whose socket alone may change it. Not known where `dormant` is not. */
  readonly owned: 'yes' | 'no' | 'unknown';
  readonly chains: ReadonlyMap<string, NftChain>;
  /** Sets and maps: one namespace. */
  readonly sets: ReadonlyMap<string, NftSet>;
  readonly flowtables: ReadonlyMap<string, NftFlowtable>;
}

/** A base chain has a hook; every other is reached by jumps only. */
export interface NftChain {
  readonly name: string;
  readonly type: string | undefined;
  readonly hook: string | undefined;
  readonly priority: number | undefined;
  readonly policy: string | undefined;
  /** Netdev and ingress chains only. nft 1.0.6 does not tell them in JSON; then the list is empty. */
  readonly devices: readonly string[];
  readonly rules: readonly NftRule[];
}

export interface NftRule {
  readonly chain: string;
  /** Statements as libnftables-json(5) writes them. What the text reader does not know is `{ unread: words }`. */
  readonly expressions: readonly unknown[];
  /** As nft writes it. */
  readonly text: string;
  readonly comment: string | undefined;
}

export interface NftSet {
  readonly name: string;
  readonly kind: 'set' | 'map';
  /** `ipv4_addr . inet_service`; empty for `typeof` declarations that are not told otherwise. */
  readonly keyType: string;
  /** What a map gives: `verdict`, `mark`, … */
  readonly dataType: string | undefined;
  /** nft 1.0.6 leaves `dynamic` out of its JSON: a set that rules update is dynamic, whatever stands here. */
  readonly flags: readonly string[];
  readonly hasTimeout: boolean;
  /** Every element carries a statement that may fail, such as a rate limit. */
  readonly hasConditions: boolean;
  /** For a set the keys, for a map pairs of key and data, as libnftables-json(5) writes them. */
  readonly elements: readonly unknown[];
  /** Words between the elements that cannot be read: the set may hold more than its elements. */
  readonly unread: readonly string[];
}

export interface NftFlowtable {
  readonly name: string;
  readonly devices: readonly string[];
}
