import { type Family, addressBlock, formatAddress, parseAddress, prefixLength } from '../sets/address.ts';
import { type Bound, type IntervalSet, interval, union } from '../sets/interval-set.ts';

/** Readers of single values. Each gives undefined for what it cannot read; the caller keeps the words. */

/** `80`, `80:90`, `:90`, `80:` and, in lists, `80,443,8000:8100`. Service names are not read. */
export function readPorts(text: string, separator = ','): IntervalSet | undefined {
  const pairs: [Bound, Bound][] = [];
  for (const item of text.split(separator)) {
    // No leading zeros: iptables reads `0120` as octal (xtables_strtoui, base 0), here and in every number below.
    const found = /^(0|[1-9]\d{0,4}|)(:(0|[1-9]\d{0,4}|))?$/.exec(item);
    if (!found || item === '') return undefined;
    const from = found[1] === '' ? 0 : Number(found[1]);
    const to = found[2] === undefined ? from : found[3] === '' ? 65535 : Number(found[3]);
    if (to > 65535 || from > to) return undefined;
    pairs.push([from, to + 1]);
  }
  return union(pairs);
}

/** `0x10/0x10` or `16`; the mask is all bits where none is written. */
export function readMark(text: string): { value: number; mask: number } | undefined {
  const found = /^(0x[0-9a-f]{1,8}|0|[1-9]\d{0,9})(?:\/(0x[0-9a-f]{1,8}|0|[1-9]\d{0,9}))?$/i.exec(text);
  if (!found) return undefined;
  const value = Number(found[1]);
  const mask = found[2] === undefined ? 0xffffffff : Number(found[2]);
  return value > 0xffffffff || mask > 0xffffffff ? undefined : { value, mask };
}

export const markText = ({ value, mask }: { value: number; mask: number }): string =>
  mask === 0xffffffff ? `0x${value.toString(16)}` : `0x${value.toString(16)}/0x${mask.toString(16)}`;

/** One block, or several with commas: `10.0.0.0/8,192.168.0.0/16`. */
export function readAddresses(family: Family, text: string): IntervalSet | undefined {
  if (!text.includes(',')) return addressBlock(family, text);
  const pairs: [Bound, Bound][] = [];
  for (const item of text.split(',')) {
    const block = addressBlock(family, item);
    if (block?.length !== 2) return undefined;
    pairs.push([block[0]!, block[1]!]);
  }
  return union(pairs);
}

/** `a-b`, both ends included, or one address. */
export function readRange(family: Family, text: string): IntervalSet | undefined {
  const [first, last = first] = text.split('-');
  const from = parseAddress(family, first!);
  const to = parseAddress(family, last!);
  if (from === undefined || to === undefined) return undefined;
  return interval(from, typeof to === 'number' ? to + 1 : to + 1n);
}

/** As iptables-save prints it: always with a prefix length, host bits cleared; a mask with holes stays as it was. */
export function addressText(family: Family, text: string): string {
  const slash = text.indexOf('/');
  const block = addressBlock(family, text);
  if (!block || block.length !== 2) return text;
  const length = slash < 0 ? (family === 'ipv4' ? 32 : 128) : prefixLength(family, text.slice(slash + 1))!;
  return `${formatAddress(family, block[0]!)}/${length}`;
}

/** Protocols by the names that iptables prints (xtables_chain_protos), and the others of /etc/protocols that are seen. */
const PROTOCOLS: readonly (readonly [string, number])[] = [
  ['tcp', 6], ['udp', 17], ['udplite', 136], ['icmp', 1], ['ipv6-icmp', 58], ['esp', 50], ['ah', 51], ['sctp', 132],
  ['dccp', 33], ['mh', 135], ['ipv6-mh', 135], ['icmpv6', 58], ['icmp6', 58], ['igmp', 2], ['ipencap', 4], ['ipip', 94],
  ['gre', 47], ['ipv6', 41], ['ospf', 89], ['vrrp', 112], ['pim', 103], ['l2tp', 115],
];
const NUMBER_OF = new Map(PROTOCOLS);
const NAME_OF = new Map([...PROTOCOLS].reverse().map(([name, number]) => [number, name]));

/** The protocols a `-p` value names: one, or every one for `all` and `0`. */
export function readProtocol(text: string): IntervalSet | undefined {
  const lower = text.toLowerCase();
  if (lower === 'all' || lower === '0') return interval(0, 256);
  const number = NUMBER_OF.get(lower) ?? (/^(0|[1-9]\d{0,2})$/.test(text) ? Number(text) : undefined);
  return number === undefined || number > 255 ? undefined : interval(number, number + 1);
}

export function protocolText(text: string): string {
  const lower = text.toLowerCase();
  const number = NUMBER_OF.get(lower) ?? (/^(0|[1-9]\d{0,2})$/.test(text) ? Number(text) : undefined);
  return (number === undefined ? undefined : NAME_OF.get(number)) ?? lower;
}

const TCP_FLAG: Readonly<Record<string, number>> = {
  FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ALL: 63, NONE: 0,
};

/** `SYN,ACK`, `ALL`, `NONE` as bits of the TCP flags byte. */
export function readTcpFlags(text: string): number | undefined {
  let bits = 0;
  for (const name of text.toUpperCase().split(',')) {
    const bit = TCP_FLAG[name];
    if (bit === undefined) return undefined;
    bits |= bit;
  }
  return bits;
}

/** In the order in which iptables prints them (libxt_tcp.c, tcp_flag_names). */
export function tcpFlagsText(text: string): string {
  const bits = readTcpFlags(text);
  if (bits === undefined) return text;
  const names = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG'].filter((name) => (bits & TCP_FLAG[name]!) !== 0);
  return names.length === 0 ? 'NONE' : names.join(',');
}
