import type { Backend } from './model.ts';
import type { Family } from './sets/address.ts';

/**
 * All that this package does to a machine, as one interface: `./exec` does it with the iptables and nft programs,
 * `./fake` in memory, and both pass the same contract tests. Every method rejects with an `IptablesError`.
 */
export interface Firewall {
  /** What `iptables --version` says of one program, or of the one that the plain name stands for. */
  version(family: Family, backend: Backend | 'default'): Promise<Version>;
  /** What iptables-save prints: one table, or all. An empty text means: no table. */
  save(family: Family, backend: Backend, options?: SaveOptions): Promise<string>;
  /** Feeds iptables-restore, always with --noflush: lines of one table land together or not at all. */
  restore(family: Family, backend: Backend, payload: string): Promise<void>;
  /** `nft -j …`, its JSON as text. */
  nftList(what: readonly string[]): Promise<string>;
  /** `nft …`, as it prints for people: what its JSON gets wrong (the flags of a table, 1.0.6) is right here. */
  nftText(what: readonly string[]): Promise<string>;
  /** Feeds `nft -f -`: the whole script lands or nothing does. */
  nftRun(script: string): Promise<void>;
}

export interface SaveOptions {
  readonly table?: string;
  readonly counters?: boolean;
}

/** `iptables v1.8.9 (nf_tables)`; programs older than 1.8 name no backend and are legacy. */
export interface Version {
  readonly text: string;
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  readonly backend: Backend;
}
