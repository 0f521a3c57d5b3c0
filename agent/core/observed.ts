import type { Backend, Family, NftRuleset, Ruleset } from 'node-iptables';
import type { Reason } from './reasons.ts';

/** What was seen of a node, or read from files, before anything is concluded from it. */
export interface Observed {
  readonly rulesets: readonly Ruleset[];
  /** Native nftables tables; undefined when nothing could list them. */
  readonly nft: NftRuleset | undefined;
  /** Why no native table can be written here, in words; left out where nothing is known to be in the way. */
  readonly withoutNft?: string;
  /** What should have been read and was not. Any of these keeps the answer from being more than unknown. */
  readonly failures: readonly Failure[];
  /** Ways past every rule. */
  readonly bypasses: readonly string[];
  /** Patterns of pod interfaces found on the node, beyond the configured ones. */
  readonly patterns: readonly FoundPattern[];
  /** The families to judge. */
  readonly families: readonly Family[];
  /** The mark a pod's packet starts with; undefined when a program on the interface may set any. */
  readonly startMark: number | undefined;
  /** What was taken for granted in gathering this, in sentences. */
  readonly assumed: readonly string[];
  /** The backend that the plain `iptables` stands for, where that is known. */
  readonly hostBackend: Backend | undefined;
}

export interface Failure {
  readonly family: Family | 'both';
  readonly what: string;
  readonly reason: Extract<Reason, 'NotPermitted' | 'NotInstalled' | 'Busy' | 'TimedOut' | 'CouldNotLook' | 'CannotRead'>;
  readonly message: string;
}

export interface FoundPattern {
  readonly pattern: string;
  /** Where it was found: "the VPC CNI's configuration", "veth0a1b2c3d on this node". */
  readonly from: string;
}
