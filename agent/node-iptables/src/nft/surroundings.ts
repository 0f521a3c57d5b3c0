import type { Family } from '../sets/address.ts';
import type { NftTable } from './model.ts';

/** What a rule's meaning depends on besides its words. */
export interface Surroundings {
  readonly table: NftTable;
  /** Of the packets: a rule of an inet table is read once for each. */
  readonly family: Family;
  /**
   * Before conntrack `ct state` is invalid and every other `ct` ends the rule; the walker knows that of each packet.
   * 'unordered': the chain has conntrack's own priority, and which of the two comes first is not known.
   */
  readonly conntrack: 'ordered' | 'unordered';
}
