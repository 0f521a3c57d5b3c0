import { CT_DIRECTION, CT_STATUS } from '../packet/packet-class.ts';
import { NEVER, any } from '../packet/test.ts';
import { STATE_BITS, STATUS_BITS, tracked } from './connection.ts';
import { depends } from './doubt.ts';
import { type Field, stateField, unreadField } from './field.ts';
import { member } from './json.ts';
import { markField } from './mark-field.ts';
import type { Surroundings } from './surroundings.ts';
import { readFlagNames } from './values.ts';

export function ctField(body: unknown, left: unknown, around: Surroundings): Field {
  const key = member(body, 'key');
  if (around.conntrack === 'unordered') return { needs: [], equals: () => undefined, undecided: depends('whether conntrack comes before this chain') };
  switch (key) {
    case 'state':
      return stateOfConnection;
    case 'direction':
      return direction;
    case 'status':
      return status;
    case 'mark':
      return markField(left, around) ?? unreadField(left);
    default:
      return typeof key === 'string' ? { ...stateField(left), needs: [tracked] } : unreadField(left);
  }
}

/** A packet is in exactly one state, so `== established|related` is never and `!= established|related` always true. */
const stateOfConnection: Field = {
  needs: [],
  equals: (value) => {
    const among = readFlagNames(value, STATE_BITS);
    if (among === undefined) return undefined;
    return among !== 0 && (among & (among - 1)) === 0 ? { is: 'ctstate', among } : NEVER;
  },
  shares: (value) => {
    const among = readFlagNames(value, STATE_BITS);
    return among === undefined ? undefined : { is: 'ctstate', among };
  },
};

const direction: Field = {
  needs: [tracked],
  equals: (value) => {
    if (value === 'original' || value === 0) return { is: 'ctdir', among: CT_DIRECTION.ORIGINAL };
    if (value === 'reply' || value === 1) return { is: 'ctdir', among: CT_DIRECTION.REPLY };
    return undefined;
  },
};

/**
 * nf_nat_setup_info sets IPS_SRC_NAT_DONE and IPS_DST_NAT_DONE together with IPS_SRC_NAT and IPS_DST_NAT, so that the
 * whole status is never just `dnat`: `ct status != dnat`, which asks for the whole, is true of every connection.
 */
const NAT_BITS = CT_STATUS.SNAT | CT_STATUS.DNAT;
const status: Field = {
  needs: [tracked],
  equals: (value) => {
    const bits = readFlagNames(value, STATUS_BITS);
    if (bits === undefined) return undefined;
    return (bits & NAT_BITS) !== 0 ? NEVER : depends('the whole status of the connection');
  },
  shares: (value) => {
    const bits = readFlagNames(value, STATUS_BITS);
    if (bits === undefined) return undefined;
    return any(Object.values(STATUS_BITS).filter((bit) => (bits & bit) !== 0).map((bit) => ({ is: 'ctstatus', value: bit, mask: bit })));
  },
};
