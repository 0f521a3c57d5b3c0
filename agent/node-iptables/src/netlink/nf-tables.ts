import type { NftFamily } from '../nft/model.ts';
import { type Message, NLM_F, attributesOf, eachAttribute, longOf, numberOf, textOf } from './message.ts';

/** linux/netfilter/nfnetlink.h and nf_tables.h: numbers are the kernel's interface and never change. */
export const NETLINK_NETFILTER = 12;
/** The multicast group that is told of every change to nf_tables. */
export const NFNLGRP_NFTABLES = 7;
const SUBSYSTEM = 10;

export const MESSAGE = {
  NEWTABLE: 0, GETTABLE: 1, DELTABLE: 2, NEWCHAIN: 3, GETCHAIN: 4, DELCHAIN: 5, NEWRULE: 6, GETRULE: 7, DELRULE: 8, NEWSET: 9, GETSET: 10, DELSET: 11,
  NEWSETELEM: 12, GETSETELEM: 13, DELSETELEM: 14, NEWGEN: 15, GETGEN: 16, NEWOBJ: 18, DELOBJ: 20, NEWFLOWTABLE: 22, DELFLOWTABLE: 24,
} as const;
export const messageType = (message: number): number => (SUBSYSTEM << 8) | message;

export const TABLE = { NAME: 1, FLAGS: 2, HANDLE: 4, OWNER: 7 } as const;
export const TABLE_FLAG = { DORMANT: 1, OWNER: 2, PERSIST: 4 } as const;
export const CHAIN = { TABLE: 1, HANDLE: 2, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 } as const;
export const HOOK = { NUMBER: 1, PRIORITY: 2 } as const;
export const RULE = { TABLE: 1, CHAIN: 2, HANDLE: 3, EXPRESSIONS: 4, COMPAT: 5, POSITION: 6, USERDATA: 7 } as const;
const GENERATION = { ID: 1, PID: 2, PROCESS: 3 } as const;

/** NFPROTO_*: the family in `struct nfgenmsg`. */
export const FAMILY_NUMBER: Readonly<Record<NftFamily, number>> = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 };
const FAMILY_OF = new Map(Object.entries(FAMILY_NUMBER).map(([family, number]) => [number, family as NftFamily]));
/** `struct nfgenmsg`: family, version, resource id. */
export const NFGENMSG = 4;

interface Located {
  readonly change: 'new' | 'deleted';
  readonly family: NftFamily;
  readonly table: string;
  /** The socket that made the change. */
  readonly port: number;
  /** Everything after `struct nfgenmsg`: to look for bytes in, and to write the same again. */
  readonly attributes: Buffer;
}

/** A notification, read as far as every one of thousands has to be. */
export type NftEvent =
  | (Located & { readonly is: 'table' })
  | (Located & { readonly is: 'chain'; readonly chain: string; /** Base chains only. */ readonly hook: Buffer | undefined })
  | (Located & { readonly is: 'rule'; readonly chain: string; /** Written with NLM_F_APPEND: below all others. */ readonly appended: boolean })
  | (Located & { readonly is: 'set' | 'element' | 'flowtable'; readonly name: string })
  /** The end of a batch: everything before it since the last one has been put in place at once, by this process. */
  | { readonly is: 'generation'; readonly id: number; readonly pid: number; readonly process: string; readonly port: number };

/** Undefined for what is no change to anything that packets meet (objects such as counters), or cannot be read. */
export function readNftEvent(message: Message): NftEvent | undefined {
  if (message.type >> 8 !== SUBSYSTEM || message.body.length < NFGENMSG) return undefined;
  const kind = message.type & 0xff;
  const { body, port } = message;
  if (kind === MESSAGE.NEWGEN) {
    const attributes = attributesOf(body, NFGENMSG);
    const [id, pid] = [numberOf(attributes.get(GENERATION.ID)), numberOf(attributes.get(GENERATION.PID))];
    return id === undefined ? undefined : { is: 'generation', id, pid: pid ?? 0, process: textOf(attributes.get(GENERATION.PROCESS)), port };
  }
  const family = FAMILY_OF.get(body[0]!);
  const is = IS[kind];
  if (family === undefined || is === undefined) return undefined;
  // Two names are all that most events are asked for; a map of all attributes costs three times as much.
  let first: Buffer | undefined;
  let second: Buffer | undefined;
  let third: Buffer | undefined;
  let fourth: Buffer | undefined;
  eachAttribute(body, NFGENMSG, (type, value) => {
    if (type === 1) first = value;
    else if (type === 2) second = value;
    else if (type === 3) third = value;
    else if (type === 4) fourth = value;
  });
  const located: Located = { change: DELETED.has(kind) ? 'deleted' : 'new', family, table: textOf(first), port, attributes: body.subarray(NFGENMSG) };
  switch (is) {
    case 'table':
      return { ...located, is };
    case 'chain':
      return { ...located, is, chain: textOf(third), hook: fourth };
    case 'rule':
      return { ...located, is, chain: textOf(second), appended: (message.flags & NLM_F.APPEND) !== 0 };
    default:
      return { ...located, is, name: textOf(second) };
  }
}

const IS: Readonly<Record<number, Exclude<NftEvent['is'], 'generation'>>> = {
  [MESSAGE.NEWTABLE]: 'table', [MESSAGE.DELTABLE]: 'table',
  [MESSAGE.NEWCHAIN]: 'chain', [MESSAGE.DELCHAIN]: 'chain',
  [MESSAGE.NEWRULE]: 'rule', [MESSAGE.DELRULE]: 'rule',
  [MESSAGE.NEWSET]: 'set', [MESSAGE.DELSET]: 'set',
  [MESSAGE.NEWSETELEM]: 'element', [MESSAGE.DELSETELEM]: 'element',
  [MESSAGE.NEWFLOWTABLE]: 'flowtable', [MESSAGE.DELFLOWTABLE]: 'flowtable',
};
const DELETED: ReadonlySet<number> = new Set([MESSAGE.DELTABLE, MESSAGE.DELCHAIN, MESSAGE.DELRULE, MESSAGE.DELSET, MESSAGE.DELSETELEM, MESSAGE.DELFLOWTABLE]);

/** A table as a dump tells it. */
export interface TableState {
  readonly family: NftFamily;
  readonly name: string;
  readonly flags: number;
  /** The port of the socket that owns it; undefined for one without an owner, or whose owner is gone. */
  readonly owner: number | undefined;
}

export function readTable({ body }: Message): TableState | undefined {
  const family = FAMILY_OF.get(body[0] ?? 0);
  const attributes = attributesOf(body, NFGENMSG);
  return family && { family, name: textOf(attributes.get(TABLE.NAME)), flags: numberOf(attributes.get(TABLE.FLAGS)) ?? 0, owner: numberOf(attributes.get(TABLE.OWNER)) };
}

/** The handle by which the kernel knows a rule: unique in its table. */
export const handleOf = (rule: { readonly attributes: Buffer }): bigint | undefined => longOf(attributesOf(rule.attributes).get(RULE.HANDLE));
