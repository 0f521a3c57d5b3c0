import type { Family } from '../sets/address.ts';
import type { NftTable } from './model.ts';

/** What a rule's meaning depends on besides its words. */
export interface Surroundings {
  readonly table: NftTable;
  /** Of the packets: a rule of an inet table is read once for each. */
  readonly family: Family;
  /** Before conntrack (nf_ip_hook_priorities: -200, at prerouting and output) `ct` says nothing about the packet. */
  readonly conntrack: 'before' | 'after';
}
