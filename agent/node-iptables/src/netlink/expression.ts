import { attribute, attributesOf, eachAttribute, longAttribute, longOf, nested, numberAttribute, numberOf, textAttribute, textOf } from './message.ts';

/** One step of a rule's little program, as nf_tables keeps it: a name (`payload`, `cmp`) and its attributes. */
export interface Expression {
  readonly name: string;
  readonly data: Buffer;
}

const LIST_ELEMENT = 1;
const EXPRESSION = { NAME: 1, DATA: 2 } as const;

/** The list in NFTA_RULE_EXPRESSIONS. */
export function expressionsOf(list: Buffer | undefined): Expression[] {
  const out: Expression[] = [];
  if (list) {
    eachAttribute(list, 0, (_, element) => {
      out.push(expressionOf(element));
    });
  }
  return out;
}

/** One that stands by itself: what a set does for each of its elements. */
export function expressionOf(bytes: Buffer): Expression {
  const parts = attributesOf(bytes);
  return { name: textOf(parts.get(EXPRESSION.NAME)), data: parts.get(EXPRESSION.DATA) ?? Buffer.alloc(0) };
}

export const expressionBytes = (name: string, ...data: readonly Buffer[]): Buffer => Buffer.concat([textAttribute(EXPRESSION.NAME, name), nested(EXPRESSION.DATA, ...data)]);
export const listOfExpressions = (type: number, expressions: readonly Buffer[]): Buffer => nested(type, ...expressions.map((one) => nested(LIST_ELEMENT, one)));

/** enum nft_meta_keys */
export const META = { IIFNAME: 6, OIFNAME: 7, NFPROTO: 15, L4PROTO: 16 } as const;
/** enum nft_payload_bases */
export const BASE = { NETWORK: 1, TRANSPORT: 2, INNER: 3 } as const;
/** Where addresses and ports are: IPv4 header, IPv6 header, TCP and UDP header; and the first bytes that TCP carries (5.16). */
export const FIELD = {
  ipv4: { source: [BASE.NETWORK, 12, 4], destination: [BASE.NETWORK, 16, 4] },
  ipv6: { source: [BASE.NETWORK, 8, 16], destination: [BASE.NETWORK, 24, 16] },
  sourcePort: [BASE.TRANSPORT, 0, 2],
  destinationPort: [BASE.TRANSPORT, 2, 2],
  tcpFlags: [BASE.TRANSPORT, 13, 1],
  carried: [BASE.INNER, 0, 4],
} as const satisfies Record<string, unknown>;
export type Field = readonly [base: number, offset: number, length: number];

/** enum nft_cmp_ops */
export const CMP = { EQUAL: 0, NOT_EQUAL: 1, AT_MOST: 3, AT_LEAST: 5 } as const;
const VERDICT_REGISTER = 0;
const DATA = { VALUE: 1, VERDICT: 2 } as const;
const VERDICT = { CODE: 1, CHAIN: 2 } as const;
/** NF_DROP, NF_ACCEPT; jumps are negative (enum nft_verdicts). */
export const VERDICT_CODE = { DROP: 0, ACCEPT: 1, JUMP: -3, GOTO: -4, RETURN: -5 } as const;

export const meta = (key: number, register = 1): Buffer => expressionBytes('meta', numberAttribute(2, key), numberAttribute(1, register));
export const payload = ([base, offset, length]: Field, register = 1): Buffer =>
  expressionBytes('payload', numberAttribute(1, register), numberAttribute(2, base), numberAttribute(3, offset), numberAttribute(4, length));
export const compare = (op: number, value: Buffer, register = 1): Buffer => expressionBytes('cmp', numberAttribute(1, register), numberAttribute(2, op), nested(3, attribute(DATA.VALUE, value)));
export const equals = (value: Buffer, register = 1): Buffer => compare(CMP.EQUAL, value, register);
/** Leaves the bits of the mask in the register. */
export const masked = (mask: Buffer, register = 1): Buffer =>
  expressionBytes('bitwise', numberAttribute(1, register), numberAttribute(2, register), numberAttribute(3, mask.length), nested(4, attribute(DATA.VALUE, mask)), nested(5, attribute(DATA.VALUE, Buffer.alloc(mask.length))));
/** The number of the socket's cgroup (v2), or of its ancestor at that level; a socket that is not so deep ends the rule (5.13). */
export const socketCgroup = (level: number, register = 1): Buffer => expressionBytes('socket', numberAttribute(1, SOCKET_CGROUPV2), numberAttribute(2, register), numberAttribute(3, level));
/** enum nft_socket_keys */
const SOCKET_CGROUPV2 = 3;
/** What a counter has seen. */
export interface Counted {
  readonly packets: bigint;
  readonly bytes: bigint;
}
export const counter = ({ packets, bytes }: Counted = { packets: 0n, bytes: 0n }): Buffer => expressionBytes('counter', longAttribute(1, bytes), longAttribute(2, packets));
const verdict = (code: number, ...chain: readonly Buffer[]): Buffer => expressionBytes('immediate', numberAttribute(1, VERDICT_REGISTER), nested(2, nested(DATA.VERDICT, numberAttribute(VERDICT.CODE, code), ...chain)));
export const drop = (): Buffer => verdict(VERDICT_CODE.DROP);
export const goBack = (): Buffer => verdict(VERDICT_CODE.RETURN);
/** The chain must be there, or come before this rule in the batch. */
export const goTo = (chain: string): Buffer => verdict(VERDICT_CODE.GOTO, textAttribute(VERDICT.CHAIN, chain));
/** A TCP reset (NFT_REJECT_TCP_RST). */
export const reset = (): Buffer => expressionBytes('reject', numberAttribute(1, 1), attribute(2, Buffer.alloc(1)));
/** enum nft_dynset_ops: `update` begins an element's time anew, `add` does not. */
const SET_OP = { add: 0, update: 1 } as const;
/** `update @set { … counter }` of the key that stands in the registers from `register` on. Where the set is full, the rule ends. */
export const fillSet = (op: keyof typeof SET_OP, set: { readonly name: string; readonly id: number }, register: number, each?: Buffer): Buffer =>
  expressionBytes('dynset', textAttribute(1, set.name), numberAttribute(2, set.id), numberAttribute(3, SET_OP[op]), numberAttribute(4, register), ...(each ? [nested(7, each)] : []));

/** What a `cmp` compares with, and how (0 is equal). */
export function comparison({ name, data }: Expression): { readonly op: number; readonly value: Buffer } | undefined {
  if (name !== 'cmp') return undefined;
  const parts = attributesOf(data);
  const value = attributesOf(parts.get(3) ?? Buffer.alloc(0)).get(DATA.VALUE);
  return value && { op: numberOf(parts.get(2)) ?? -1, value };
}

export function loadedField({ name, data }: Expression): Field | undefined {
  if (name !== 'payload') return undefined;
  const parts = attributesOf(data);
  return [numberOf(parts.get(2)) ?? -1, numberOf(parts.get(3)) ?? -1, numberOf(parts.get(4)) ?? -1];
}

export const loadedMeta = ({ name, data }: Expression): number | undefined => (name === 'meta' ? numberOf(attributesOf(data).get(2)) : undefined);

export function verdictOf({ name, data }: Expression): { readonly code: number; readonly chain: string } | undefined {
  if (name !== 'immediate') return undefined;
  const verdict = attributesOf(attributesOf(data).get(2) ?? Buffer.alloc(0)).get(DATA.VERDICT);
  if (!verdict) return undefined;
  const parts = attributesOf(verdict);
  const code = numberOf(parts.get(VERDICT.CODE));
  return code === undefined ? undefined : { code: code | 0, chain: textOf(parts.get(VERDICT.CHAIN)) };
}

export function countedBy({ name, data }: Expression): Counted | undefined {
  if (name !== 'counter') return undefined;
  const parts = attributesOf(data);
  return { packets: longOf(parts.get(2)) ?? 0n, bytes: longOf(parts.get(1)) ?? 0n };
}
/** Packets that a counter has seen. */
export const packetsOf = (expression: Expression): bigint | undefined => countedBy(expression)?.packets;

export const sameField = (a: Field | undefined, b: Field): boolean => a !== undefined && a[0] === b[0] && a[1] === b[1] && a[2] === b[2];
