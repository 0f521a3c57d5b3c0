import { CT_STATE, TCP_FLAGS, TCP } from '../packet/packet-class.ts';
import { type Test, any } from '../packet/test.ts';
import { STATE_BITS, STATUS_BITS, tracked } from './connection.ts';
import { depends } from './doubt.ts';
import type { Field } from './field.ts';
import { listOf, member } from './json.ts';
import type { Surroundings } from './surroundings.ts';
import { readFlagNames } from './values.ts';

const TCP_BITS: Readonly<Record<string, number>> = {
  fin: TCP_FLAGS.FIN, syn: TCP_FLAGS.SYN, rst: TCP_FLAGS.RST, psh: TCP_FLAGS.PSH, ack: TCP_FLAGS.ACK, urg: TCP_FLAGS.URG,
  ecn: TCP_FLAGS.ECE, cwr: TCP_FLAGS.CWR,
};

/**
 * `tcp flags`, whole or `& (fin|syn|rst|ack)`, and `ct state` or `ct status` with a mask; undefined when it is none of
 * these. nft prints the mask as `tcp flags syn / fin,syn,rst,ack`.
 */
export function flagsField(left: unknown, around: Surroundings): Field | undefined {
  const [inner, maskValue] = member(left, '&') === undefined ? [left, undefined] : listOf(member(left, '&'));
  const ct = member(member(inner, 'ct'), 'key');
  if (ct === 'state' || ct === 'status') return maskedCt(ct, maskValue, around);
  const payload = member(inner, 'payload');
  if (member(payload, 'protocol') !== 'tcp' || member(payload, 'field') !== 'flags') return undefined;
  const mask = maskValue === undefined ? 0xff : readFlagNames(maskValue, TCP_BITS);
  if (mask === undefined) return undefined;
  return {
    needs: [{ is: 'proto', among: TCP }],
    equals: (value) => {
      const bits = readFlagNames(value, TCP_BITS);
      return bits === undefined ? undefined : { is: 'flags', value: bits, mask };
    },
    shares: (value) => {
      const bits = readFlagNames(value, TCP_BITS);
      if (bits === undefined) return undefined;
      return any(Object.values(TCP_BITS).filter((bit) => (bits & mask & bit) !== 0).map((bit) => ({ is: 'flags', value: bit, mask: bit })));
    },
  };
}

function maskedCt(key: 'state' | 'status', maskValue: unknown, around: Surroundings): Field | undefined {
  const names = key === 'state' ? STATE_BITS : STATUS_BITS;
  const mask = readFlagNames(maskValue, names);
  if (mask === undefined) return undefined;
  if (around.conntrack === 'unordered') return { needs: [], equals: () => undefined, undecided: depends('whether conntrack comes before this chain') };
  const equals = (value: unknown): Test | undefined => {
    const bits = readFlagNames(value, names);
    if (bits === undefined) return undefined;
    if (key === 'status') return { is: 'ctstatus', value: bits, mask };
    const among = Object.values(CT_STATE).filter((state) => (state & mask) === bits).reduce((joined, state) => joined | state, 0);
    return { is: 'ctstate', among };
  };
  return key === 'status' ? { needs: [tracked], equals } : { needs: [], equals };
}
