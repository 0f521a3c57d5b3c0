import { type Family, addressBlock, parseAddress } from '../sets/address.ts';
import { type IntervalSet, interval } from '../sets/interval-set.ts';
import { IFNAME_MAX_BYTES, type NamePattern } from '../sets/name-set.ts';
import { readProtocol } from '../save/values.ts';
import { isObject, listOf, member, textOf } from './json.ts';

/** Readers of single values as libnftables-json(5) writes them. Each gives undefined for what it cannot read. */

/** `"10.0.0.1"`, `{"prefix": {"addr": "10.0.0.0", "len": 8}}`, `{"range": ["10.0.0.1", "10.0.0.9"]}` */
export function readAddress(family: Family, value: unknown): IntervalSet | undefined {
  if (typeof value === 'string') return value.includes('/') ? undefined : addressBlock(family, value);
  const prefix = member(value, 'prefix');
  if (isObject(prefix)) {
    return typeof prefix['addr'] === 'string' && typeof prefix['len'] === 'number' ? addressBlock(family, `${prefix['addr']}/${prefix['len']}`) : undefined;
  }
  const [first, last] = rangeOf(value);
  const from = typeof first === 'string' ? parseAddress(family, first) : undefined;
  const to = typeof last === 'string' ? parseAddress(family, last) : undefined;
  if (from === undefined || to === undefined) return undefined;
  return interval(from, typeof to === 'number' ? to + 1 : to + 1n);
}

/** `443` or `{"range": [8000, 9000]}`; names of services are not read. */
export const readPort = (value: unknown): IntervalSet | undefined => readNumbers(value, 65535, readNumber);

/** `"tcp"`, `200`, `{"range": [1, 5]}`. Names that nft takes from /etc/protocols, as far as they are known here. */
export const readProto = (value: unknown): IntervalSet | undefined => readNumbers(value, 255, protocolNumber);

function readNumbers(value: unknown, most: number, one: (value: unknown) => number | undefined): IntervalSet | undefined {
  const [first, last] = member(value, 'range') === undefined ? [value, value] : rangeOf(value);
  const from = one(first);
  const to = one(last);
  return from === undefined || to === undefined || from > to || to > most ? undefined : interval(from, to + 1);
}

export const rangeOf = (value: unknown): readonly unknown[] => {
  const range = listOf(member(value, 'range'));
  return range.length === 2 ? range : [];
};

function protocolNumber(value: unknown): number | undefined {
  const number = readNumber(value);
  if (number !== undefined || typeof value !== 'string') return number;
  // For iptables `all` is every protocol; nft has no such word.
  if (value === 'all') return undefined;
  const named = readProtocol(value);
  return named?.length === 2 && named[0] !== 0 ? Number(named[0]) : undefined;
}

/** A number below 2^32: nft prints `0x00000010` in text and 16 in JSON. */
export function readNumber(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isInteger(number) && number >= 0 && number <= 0xffffffff ? number : undefined;
}

/** `eth0`, `eni*`; a star that is no wildcard is written `\*` (nft(8), meta iifname). */
export function readName(value: unknown): NamePattern | undefined {
  const text = textOf(value);
  if (text === undefined || text === '') return undefined;
  const open = /(?<!\\)\*$/.test(text);
  const prefix = (open ? text.slice(0, -1) : text).replaceAll('\\*', '*');
  return new TextEncoder().encode(prefix).length > IFNAME_MAX_BYTES ? undefined : { prefix, open };
}

/** Names joined as flags are: `"syn"`, `["syn", "ack"]`, `{"|": ["syn", "ack"]}`, or 0. Unknown names make it unread. */
export function readFlagNames(value: unknown, bits: Readonly<Record<string, number>>): number | undefined {
  if (value === 0 || value === '0x0' || value === '0') return 0;
  if (typeof value === 'string') return Object.hasOwn(bits, value) ? bits[value] : undefined;
  const names = Array.isArray(value) ? value : member(value, '|');
  if (!Array.isArray(names)) return undefined;
  let joined = 0;
  for (const name of names) {
    const read = readFlagNames(name, bits);
    if (read === undefined) return undefined;
    joined |= read;
  }
  return joined;
}

/** A range of 32-bit numbers as blocks `(x & mask) == value`, the fewest there are. */
export function blocksOf(from: number, to: number): { value: number; mask: number }[] {
  const blocks: { value: number; mask: number }[] = [];
  for (let at = from; at <= to; ) {
    let size = 1;
    while (at % (size * 2) === 0 && at + size * 2 - 1 <= to) size *= 2;
    blocks.push({ value: at, mask: (0x100000000 - size) >>> 0 });
    at += size;
  }
  return blocks;
}
