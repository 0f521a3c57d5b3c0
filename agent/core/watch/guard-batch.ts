import type { Family } from 'node-iptables';
import {
  CMP, FIELD, META, TABLE_FLAG, batch, compare, counter, deleteTable, drop, equals, fillSet, goBack, goTo, keyBytes, masked, meta, newBaseChain, newChain, newDynamicSet, newElements, newRule, newTable, newTimedSet, payload, reset, socketCgroup,
} from 'node-iptables/netlink';
import { IMDS_BYTES, IMDS_PORT } from '../addresses.ts';
import { CGROUP_LEVELS, CLIENT_SET, COUNT_SETS, COUNT_SET_SIZE, type Counting, GUARD_TABLE, type GuardAct, OWNED_GUARD_TABLE, REQUESTS, SINCE_ELEMENT, SINCE_SET, countSets, guardChains } from '../guard-table.ts';
import { PROBE_PORTS } from '../probe/pod-network.ts';
import { type CarriedCounts, NOTHING_CARRIED } from './carried-counts.ts';

/**
 * Who may change the table. `owned-persistent` (kernel 6.9): its owner's socket alone, and it stays when that is closed.
 * `owned` (5.12): the same, and it goes with the socket. `plain`: any root.
 */
export type GuardForm = 'owned-persistent' | 'owned' | 'plain';
export const GUARD_FORMS: readonly GuardForm[] = ['owned-persistent', 'owned', 'plain'];

const FLAGS: Readonly<Record<GuardForm, number>> = { 'owned-persistent': TABLE_FLAG.OWNER | TABLE_FLAG.PERSIST, owned: TABLE_FLAG.OWNER, plain: 0 };
export const tableOf = (form: GuardForm): string => (form === 'owned' ? OWNED_GUARD_TABLE : GUARD_TABLE);

/** What the table is to be. */
export interface GuardWish {
  readonly form: GuardForm;
  readonly counting: Counting;
  readonly act: GuardAct;
}

/**
 * The guard table as one batch: what `core/guard-table.ts` says in nft's words, for a daemon that depends on no nft, and that
 * wants to own it. A table of that name is replaced at the same instant, whatever was in it: no packet passes between.
 */
export const guardBatch = (wish: GuardWish, replaces: boolean, carried: CarriedCounts = NOTHING_CARRIED): Buffer[] =>
  batch(...tableMessages(wish, replaces), ...countingMessages(wish), ...elementMessages(wish, carried));

/** What a refusal is about, by its place among the results of that batch. */
export function refusedPart(resultAt: number, wish: GuardWish, replaces: boolean): 'table' | 'counting' | 'elements' {
  const counting = tableMessages(wish, replaces).length;
  return resultAt < counting ? 'table' : resultAt < counting + countingMessages(wish).length ? 'counting' : 'elements';
}

const placeOf = ({ form }: GuardWish) => ({ family: 'inet', table: tableOf(form) }) as const;

const tableMessages = (wish: GuardWish, replaces: boolean): Buffer[] => [...(replaces ? [deleteTable(placeOf(wish))] : []), newTable(placeOf(wish), FLAGS[wish.form])];

function countingMessages(wish: GuardWish): Buffer[] {
  const { counting, act } = wish;
  const place = placeOf(wish);
  const chains = guardChains(act, counting);
  return [
    ...countSets(counting).map((set) => newDynamicSet({ ...place, ...set, size: COUNT_SET_SIZE, id: idOf(set.name) })),
    newTimedSet({ ...place, ...SINCE_SET, id: idOf(SINCE_SET.name) }),
    // All of them before the first rule, for rules lead from one to another.
    ...chains.map(({ name, hook }) => (hook ? newBaseChain({ ...place, chain: name, type: 'filter', hook: hook.name, priority: hook.priority }) : newChain({ ...place, chain: name }))),
    ...chains.flatMap(({ name }) => rulesOf(name, counting, act).map((rule) => newRule({ ...place, chain: name }, rule))),
  ];
}

function elementMessages(wish: GuardWish, { sinceMsAgo, sets }: CarriedCounts): Buffer[] {
  const since = { key: nameKey(SINCE_ELEMENT), ...(sinceMsAgo === undefined ? {} : { expiresMs: SINCE_SET.timeoutMs - sinceMsAgo }) };
  return [{ name: SINCE_SET.name, elements: [since] }, ...sets].map(({ name, elements }) => newElements({ ...placeOf(wish), name, id: idOf(name) }, elements));
}

type Rule = readonly Buffer[];

function rulesOf(chain: string, counting: Counting, act: GuardAct): readonly Rule[] {
  switch (chain) {
    case 'count':
      return FAMILIES.map((family) => [...toImdsPort(family), goTo('asked')]);
    case 'asked':
      return [[...fromProbe(), goTo('probed')], [...hasFlag(ACK), counting === 'full' ? goTo('carried') : goBack()], [...hasFlag(SYN), goTo('begun')]];
    case 'probed':
      return [[...hasFlag(ACK), goBack()], [...hasFlag(SYN), ...countBy('update', 'probes')]];
    case 'begun':
      return [countBy('add', 'interfaces'), [iifname(), fill('update', 'recent')], ...FAMILIES.map((family) => [...ofFamily(family), iifname(), payload(FIELD[family].source, SECOND), fill('update', CLIENT_SET[family], counter())])];
    case 'carried':
      return Object.entries(REQUESTS).map(([set, text]) => [payload(FIELD.carried), equals(Buffer.from(text)), ...countBy('update', set)]);
    case 'count-node':
      return FAMILIES.map((family) => [...toImdsPort(family), goTo('asked-node')]);
    case 'asked-node':
      return [[...hasFlag(ACK), goBack()], [...fromProbe(), goBack()], ...CGROUP_LEVELS.map((level) => [socketCgroup(level), fill('update', 'processes', counter()), goBack()])];
    default:
      return FAMILIES.flatMap((family) => [...(act === 'reject' ? [[...toImds(family), ...tcp(), counter(), reset()]] : []), [...toImds(family), counter(), drop()]]);
  }
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
/** Registers are 16 bytes: the interface's name fills the first, the address begins the second. */
const FIRST = 1;
const SECOND = 2;
/** NFPROTO_IPV4, NFPROTO_IPV6 */
const NFPROTO: Readonly<Record<Family, number>> = { ipv4: 2, ipv6: 10 };
const TCP = 6;
const SYN = 0x02;
const ACK = 0x10;

/** 0 is no other's: the set since when. */
const idOf = (set: string): number => COUNT_SETS.findIndex(({ name }) => name === set) + 1;
const fill = (op: 'add' | 'update', name: string, each?: Buffer): Buffer => fillSet(op, { name, id: idOf(name) }, FIRST, each);
const iifname = (): Buffer => meta(META.IIFNAME, FIRST);
const countBy = (op: 'add' | 'update', set: string): Buffer[] => [iifname(), fill(op, set, counter())];

const ofFamily = (family: Family): Buffer[] => [meta(META.NFPROTO), equals(Buffer.from([NFPROTO[family]]))];
const toImds = (family: Family): Buffer[] => [...ofFamily(family), payload(FIELD[family].destination), equals(Buffer.from(IMDS_BYTES[family]))];
const tcp = (): Buffer[] => [meta(META.L4PROTO), equals(Buffer.from([TCP]))];
const toImdsPort = (family: Family): Buffer[] => [...toImds(family), ...tcp(), payload(FIELD.destinationPort), equals(portBytes(IMDS_PORT))];
const fromProbe = (): Buffer[] => [...tcp(), payload(FIELD.sourcePort), compare(CMP.AT_LEAST, portBytes(PROBE_PORTS.first)), compare(CMP.AT_MOST, portBytes(PROBE_PORTS.last))];
const hasFlag = (bit: number): Buffer[] => [...tcp(), payload(FIELD.tcpFlags), masked(Buffer.from([bit])), compare(CMP.NOT_EQUAL, Buffer.from([0]))];

/** As the kernel has it: a name in sixteen bytes. */
const nameKey = (name: string): Buffer => Buffer.concat([Buffer.from(name)], keyBytes(['interfaceName']));
const portBytes = (port: number): Buffer => Buffer.from([port >> 8, port & 0xff]);
