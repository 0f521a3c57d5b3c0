import type { NftFamily } from '../nft/model.ts';
import { type Counted, counter, listOfExpressions } from './expression.ts';
import { NLM_F, attribute, longAttribute, messageBytes, nested, numberAttribute, textAttribute } from './message.ts';
import { CHAIN, FAMILY_NUMBER, HOOK, MESSAGE, RULE, TABLE, messageType } from './nf-tables.ts';

/** NF_INET_*: hooks of the families ip, ip6 and inet. */
export const HOOK_NUMBER = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

export interface TablePlace {
  readonly family: NftFamily;
  readonly table: string;
}
export interface ChainPlace extends TablePlace {
  readonly chain: string;
}

/** A request about a place: asked for an acknowledgement, so that each message of a batch has a result. */
function request(kind: number, flags: number, family: NftFamily, ...attributes: readonly Buffer[]): Buffer {
  const header = Buffer.from([FAMILY_NUMBER[family], 0, 0, 0]);
  return messageBytes({ type: messageType(kind), flags: NLM_F.REQUEST | flags, body: Buffer.concat([header, ...attributes]) });
}

const BATCH = { BEGIN: 16, END: 17 } as const;
/** `struct nfgenmsg` with the subsystem (nf_tables, 10) as resource. */
const edge = (type: number): Buffer => messageBytes({ type, flags: NLM_F.REQUEST, body: Buffer.from([0, 0, 0, 10]) });

/** Either all of it lands, seen by every packet at the same instant, or nothing does (nfnetlink_rcv_batch). */
export const batch = (...messages: readonly Buffer[]): Buffer[] => [edge(BATCH.BEGIN), ...messages, edge(BATCH.END)];

export const newTable = ({ family, table }: TablePlace, flags = 0): Buffer =>
  request(MESSAGE.NEWTABLE, NLM_F.CREATE | NLM_F.ACK, family, textAttribute(TABLE.NAME, table), ...(flags === 0 ? [] : [numberAttribute(TABLE.FLAGS, flags)]));

export const deleteTable = ({ family, table }: TablePlace): Buffer => request(MESSAGE.DELTABLE, NLM_F.ACK, family, textAttribute(TABLE.NAME, table));

export interface BaseChainFields extends ChainPlace {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: keyof typeof HOOK_NUMBER;
  readonly priority: number;
}

/** A base chain with policy accept: the only one that is ever written here. One that is there already is left with its policy. */
export const newBaseChain = ({ family, table, chain, type, hook, priority }: BaseChainFields): Buffer =>
  request(
    MESSAGE.NEWCHAIN, NLM_F.CREATE | NLM_F.ACK, family,
    textAttribute(CHAIN.TABLE, table), textAttribute(CHAIN.NAME, chain),
    nested(CHAIN.HOOK, numberAttribute(HOOK.NUMBER, HOOK_NUMBER[hook]), numberAttribute(HOOK.PRIORITY, priority)),
    textAttribute(CHAIN.TYPE, type),
  );

export const newChain = ({ family, table, chain }: ChainPlace): Buffer =>
  request(MESSAGE.NEWCHAIN, NLM_F.CREATE | NLM_F.ACK, family, textAttribute(CHAIN.TABLE, table), textAttribute(CHAIN.NAME, chain));

export const SET = { TABLE: 1, NAME: 2, FLAGS: 3, KEY_TYPE: 4, KEY_LENGTH: 5, DESCRIPTION: 9, ID: 10, TIMEOUT: 11, USERDATA: 13 } as const;
const SET_FLAG = { TIMEOUT: 0x10, DYNAMIC: 0x20 } as const;
export const DESCRIPTION = { SIZE: 1 } as const;
/** nft's own numbers of types, six bits each in a concatenation (libnftables, datatype.h): how a listing knows what to print. */
export const KEY_TYPE = { ipv4Address: 7, ipv6Address: 8, interfaceName: 41, cgroup: 46 } as const;
const TYPE_BITS = 6;

export interface SetFields extends TablePlace {
  readonly name: string;
  /** Any number that is this set's alone in the batch. */
  readonly id: number;
  readonly key: readonly (keyof typeof KEY_TYPE)[];
  readonly size: number;
  readonly timeoutMs: number;
}

const KEY_BYTES: Readonly<Record<keyof typeof KEY_TYPE, number>> = { ipv4Address: 4, ipv6Address: 16, interfaceName: 16, cgroup: 8 };

/**
 * How nft itself remembers in which order the bytes of a key are (libnftnl, NFTNL_UDATA_SET_KEYBYTEORDER; a type, a length, the value:
 * 1 the machine's, 2 the network's). Without it nft lists names of interfaces as empty (seen, 1.0.6); for a concatenation it needs none.
 */
const byteOrderOf = (key: readonly (keyof typeof KEY_TYPE)[]): Buffer[] =>
  key.length > 1 ? [] : [attribute(SET.USERDATA, Buffer.from([0, 4, key[0] === 'interfaceName' || key[0] === 'cgroup' ? 1 : 2, 0, 0, 0]))];

export const keyBytes = (key: readonly (keyof typeof KEY_TYPE)[]): number => key.reduce((bytes, part) => bytes + KEY_BYTES[part], 0);

/** A set that rules fill: bounded, and each element expires. */
export const newDynamicSet = (set: SetFields): Buffer => newSet(set, SET_FLAG.TIMEOUT | SET_FLAG.DYNAMIC);
/** One that no rule fills. */
export const newTimedSet = (set: SetFields): Buffer => newSet(set, SET_FLAG.TIMEOUT);

const newSet = ({ family, table, name, id, key, size, timeoutMs }: SetFields, flags: number): Buffer =>
  request(
    MESSAGE.NEWSET, NLM_F.CREATE | NLM_F.ACK, family,
    textAttribute(SET.TABLE, table), textAttribute(SET.NAME, name),
    numberAttribute(SET.FLAGS, flags),
    numberAttribute(SET.KEY_TYPE, key.reduce((type, part) => (type << TYPE_BITS) | KEY_TYPE[part], 0)),
    numberAttribute(SET.KEY_LENGTH, keyBytes(key)),
    numberAttribute(SET.ID, id),
    longAttribute(SET.TIMEOUT, BigInt(timeoutMs)),
    nested(SET.DESCRIPTION, numberAttribute(DESCRIPTION.SIZE, size)),
    ...byteOrderOf(key),
  );

export const ELEMENTS = { TABLE: 1, SET: 2, LIST: 3, SET_ID: 4 } as const;
export const ELEMENT = { KEY: 1, TIMEOUT: 4, EXPIRATION: 5, EXPRESSION: 7 } as const;
export const DATA_VALUE = 1;
const LIST_ELEMENT = 1;

export interface ElementFields {
  readonly key: Buffer;
  /** In how long it goes, at most the set's own time, which it has where this is left out. Before 5.3 the kernel takes no notice. */
  readonly expiresMs?: number;
  /** What its counter has seen; it has none where this is left out. Before 5.7 the kernel takes no notice. */
  readonly counted?: Counted;
}

/** Elements of a set of the same batch. The list is one attribute, so it holds 65,535 bytes, which are 600 elements or so. */
export const newElements = ({ family, table, name, id }: Pick<SetFields, 'family' | 'table' | 'name' | 'id'>, elements: readonly ElementFields[]): Buffer =>
  request(
    MESSAGE.NEWSETELEM, NLM_F.CREATE | NLM_F.ACK, family,
    textAttribute(ELEMENTS.TABLE, table), textAttribute(ELEMENTS.SET, name), numberAttribute(ELEMENTS.SET_ID, id),
    nested(ELEMENTS.LIST, ...elements.map(elementBytes)),
  );

const elementBytes = ({ key, expiresMs, counted }: ElementFields): Buffer =>
  nested(
    LIST_ELEMENT,
    nested(ELEMENT.KEY, attribute(DATA_VALUE, key)),
    ...(expiresMs === undefined ? [] : [longAttribute(ELEMENT.EXPIRATION, BigInt(expiresMs))]),
    ...(counted ? [nested(ELEMENT.EXPRESSION, counter(counted))] : []),
  );

/** A rule of the given expressions, below those that are there. */
export const newRule = ({ family, table, chain }: ChainPlace, expressions: readonly Buffer[]): Buffer =>
  request(
    MESSAGE.NEWRULE, NLM_F.CREATE | NLM_F.APPEND | NLM_F.ACK, family,
    textAttribute(RULE.TABLE, table), textAttribute(RULE.CHAIN, chain),
    listOfExpressions(RULE.EXPRESSIONS, expressions),
  );

/** A rule as it once was, in the very bytes in which the kernel told it (of a DELRULE, say): at the top of its chain, or at its end. */
export function sameRule(place: ChainPlace, attributes: ReadonlyMap<number, Buffer>, position: 'first' | 'last'): Buffer {
  const kept = [RULE.EXPRESSIONS, RULE.COMPAT, RULE.USERDATA].flatMap((type) => {
    const value = attributes.get(type);
    return value === undefined ? [] : [attribute(type === RULE.USERDATA ? type : type | 0x8000, value)];
  });
  const flags = NLM_F.CREATE | NLM_F.ACK | (position === 'last' ? NLM_F.APPEND : 0);
  return request(MESSAGE.NEWRULE, flags, place.family, textAttribute(RULE.TABLE, place.table), textAttribute(RULE.CHAIN, place.chain), ...kept);
}

/** One rule, by the handle that the kernel gave it. */
export const deleteRule = ({ family, table, chain }: ChainPlace, handle: bigint): Buffer =>
  request(MESSAGE.DELRULE, NLM_F.ACK, family, textAttribute(RULE.TABLE, table), textAttribute(RULE.CHAIN, chain), longAttribute(RULE.HANDLE, handle));

const UNSPECIFIED = Buffer.from([0, 0, 0, 0]);
const dump = (kind: number, ...attributes: readonly Buffer[]): Buffer => messageBytes({ type: messageType(kind), flags: NLM_F.REQUEST | NLM_F.DUMP, body: Buffer.concat([UNSPECIFIED, ...attributes]) });

/** Requests to list things; without a place, of every family. */
export const listTables = (): Buffer => dump(MESSAGE.GETTABLE);
export const listChains = (): Buffer => dump(MESSAGE.GETCHAIN);
export const listRules = (place: ChainPlace): Buffer => dumpOf(MESSAGE.GETRULE, place, textAttribute(RULE.TABLE, place.table), textAttribute(RULE.CHAIN, place.chain));
const dumpOf = (kind: number, { family }: TablePlace, ...attributes: readonly Buffer[]): Buffer =>
  messageBytes({ type: messageType(kind), flags: NLM_F.REQUEST | NLM_F.DUMP, body: Buffer.concat([Buffer.from([FAMILY_NUMBER[family], 0, 0, 0]), ...attributes]) });
export const listSets = (place: TablePlace): Buffer => dumpOf(MESSAGE.GETSET, place, textAttribute(SET.TABLE, place.table));
export const listElements = (place: TablePlace & { readonly set: string }): Buffer => dumpOf(MESSAGE.GETSETELEM, place, textAttribute(ELEMENTS.TABLE, place.table), textAttribute(ELEMENTS.SET, place.set));
export const getGeneration = (): Buffer => messageBytes({ type: messageType(MESSAGE.GETGEN), flags: NLM_F.REQUEST, body: UNSPECIFIED });
