import { CT_STATE, CT_STATUS } from '../packet/packet-class.ts';
import { type Test, not } from '../packet/test.ts';

/** Every question but `ct state` ends the rule for a packet without a connection, `!=` or not (nft_ct_get_eval). */
export const tracked: Test = not({ is: 'ctstate', among: CT_STATE.UNTRACKED | CT_STATE.INVALID });

export const STATE_BITS: Readonly<Record<string, number>> = {
  new: CT_STATE.NEW, established: CT_STATE.ESTABLISHED, related: CT_STATE.RELATED, invalid: CT_STATE.INVALID, untracked: CT_STATE.UNTRACKED,
};

/** nft(8), CONNTRACK TYPES: ct_status, of which `dying` is bit 9. */
export const STATUS_BITS: Readonly<Record<string, number>> = {
  expected: CT_STATUS.EXPECTED, 'seen-reply': CT_STATUS.SEEN_REPLY, assured: CT_STATUS.ASSURED, confirmed: CT_STATUS.CONFIRMED,
  snat: CT_STATUS.SNAT, dnat: CT_STATUS.DNAT, dying: 0x200,
};
