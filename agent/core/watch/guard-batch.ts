import type { Family } from 'node-iptables';
import {
  FIELD, META, TABLE_FLAG, batch, counter, deleteTable, drop, equals, meta, newBaseChain, newDynamicSet, newRule, newTable, payload, reset, updateSet,
} from 'node-iptables/netlink';
import { IMDS_BYTES, IMDS_PORT } from '../addresses.ts';
import { CLIENT_SETS, COUNT_PRIORITY, GUARD_PRIORITY, GUARD_TABLE, OWNED_GUARD_TABLE } from '../guard-table.ts';
import type { Settings } from '../settings.ts';

/**
 * Who may change the table. `owned-persistent` (kernel 6.9): its owner's socket alone, and it stays when that is closed.
 * `owned` (5.12): the same, and it goes with the socket. `plain`: any root.
 */
export type GuardForm = 'owned-persistent' | 'owned' | 'plain';
export const GUARD_FORMS: readonly GuardForm[] = ['owned-persistent', 'owned', 'plain'];

const FLAGS: Readonly<Record<GuardForm, number>> = { 'owned-persistent': TABLE_FLAG.OWNER | TABLE_FLAG.PERSIST, owned: TABLE_FLAG.OWNER, plain: 0 };
export const tableOf = (form: GuardForm): string => (form === 'owned' ? OWNED_GUARD_TABLE : GUARD_TABLE);

/**
 * The guard table as one batch: what `core/guard-table.ts` says in nft's words, for a daemon that depends on no nft, and that
 * wants to own it. A table of that name is replaced at the same instant, whatever was in it: no packet passes between.
 */
export function guardBatch(form: GuardForm, replaces: boolean, action: Settings['action']): Buffer[] {
  const place = { family: 'inet', table: tableOf(form) } as const;
  const count = { ...place, chain: 'count' };
  const forward = { ...place, chain: 'forward' };
  return batch(
    ...(replaces ? [deleteTable(place)] : []),
    newTable(place, FLAGS[form]),
    ...FAMILIES.map((family, at) => newDynamicSet({ ...place, ...CLIENT_SETS[family], id: at + 1, key: ['interfaceName', `${family}Address`] })),
    newBaseChain({ ...count, type: 'filter', hook: 'prerouting', priority: COUNT_PRIORITY }),
    newBaseChain({ ...forward, type: 'filter', hook: 'forward', priority: GUARD_PRIORITY }),
    ...FAMILIES.map((family, at) => newRule(count, [
      ...toImds(family), ...tcp(), payload(FIELD.destinationPort), equals(Buffer.from([0, IMDS_PORT])),
      meta(META.IIFNAME, KEY_REGISTER), payload(FIELD[family].source, KEY_REGISTER + 1), updateSet(CLIENT_SETS[family].name, at + 1, KEY_REGISTER, counter()),
    ])),
    ...FAMILIES.flatMap((family) => [
      ...(action === 'reject' ? [newRule(forward, [...toImds(family), ...tcp(), counter(), reset()])] : []),
      newRule(forward, [...toImds(family), counter(), drop()]),
    ]),
  );
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
/** Registers are 16 bytes: the interface's name fills the first, the address begins the second. */
const KEY_REGISTER = 1;
/** NFPROTO_IPV4, NFPROTO_IPV6 */
const NFPROTO: Readonly<Record<Family, number>> = { ipv4: 2, ipv6: 10 };
const TCP = 6;

const toImds = (family: Family): Buffer[] => [meta(META.NFPROTO), equals(Buffer.from([NFPROTO[family]])), payload(FIELD[family].destination), equals(Buffer.from(IMDS_BYTES[family]))];
const tcp = (): Buffer[] => [meta(META.L4PROTO), equals(Buffer.from([TCP]))];
