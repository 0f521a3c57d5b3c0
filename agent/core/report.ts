import type { Family, Packet } from 'node-iptables';
import type { Answer, Reason } from './reasons.ts';

/** What `check --output json` prints: documented in agent/commands/check.md, stable. */
export interface Report {
  /** The worst of the targets. */
  readonly answer: Answer;
  readonly reason: Reason;
  readonly targets: readonly TargetReport[];
  /** Services beside IMDS that pods need: reported, never part of the answer. */
  readonly collateral: readonly Collateral[];
  /** What was taken for granted, and what was not given. */
  readonly assumed: readonly string[];
  /**
   * The chains that `blocked` rests on: every chain that a packet of some target enters, in any conntrack state, with any chain of
   * equal priority first. Only where every state of every target is proved blocked, and packets that were translated into IMDS
   * are too: then each was followed to its end, and no change of rules in another chain lets one through.
   */
  readonly path?: readonly PathChain[];
}

/** A chain, as `RuleReport` names its place. */
export interface PathChain {
  readonly backend: RuleReport['backend'];
  readonly family: string;
  readonly table: string;
  readonly chain: string;
}

export type TargetReport = TargetBase &
  (
    | { readonly answer: 'blocked'; readonly proof: readonly RuleReport[] }
    | { readonly answer: 'open'; readonly witness: WitnessReport }
    | { readonly answer: 'unknown'; readonly doubts: readonly DoubtReport[] }
  );

interface TargetBase {
  readonly name: string;
  readonly family: Family;
  readonly interface: string;
  /** Where the pattern comes from: the configuration, or what was found on the node. */
  readonly from: string;
  readonly reason: Reason;
  /** The answer for connections that were open before. */
  readonly established: Answer;
  /** The answer for each conntrack state alone. NEW is `answer` before failures and bypasses are weighed in. */
  readonly states: StateAnswers;
}

export interface StateAnswers {
  readonly NEW: Answer;
  readonly ESTABLISHED: Answer;
  readonly RELATED: Answer;
  readonly INVALID: Answer;
  readonly UNTRACKED: Answer;
}

export interface RuleReport {
  readonly backend: 'nft' | 'legacy' | 'nft-native';
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** From 1, as `iptables -L --line-numbers` counts; 0 for a policy. */
  readonly number: number;
  readonly rule: string;
}

export interface WitnessReport {
  readonly packet: Packet;
  readonly path: readonly StopReport[];
}

export interface StopReport {
  readonly hook: string;
  readonly priority: number;
  readonly backend: RuleReport['backend'];
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** The rules that took the packet, in order. */
  readonly rules: readonly (RuleReport & { readonly does: string })[];
}

export interface DoubtReport {
  readonly why: string;
  readonly rule?: RuleReport;
}

export interface Collateral {
  readonly family: Family;
  readonly address: string;
  readonly what: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** 'open' is as it should be. */
  readonly answer: Answer;
  /** What drops it, where something does. */
  readonly by?: RuleReport;
}
