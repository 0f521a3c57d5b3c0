import { type Bound, type IntervalSet, interval } from './interval-set.ts';

export type Family = 'ipv4' | 'ipv6';

/** Every address of a family: IPv4 as number below 2^32, IPv6 as bigint below 2^128. */
export const EVERY_ADDRESS: Readonly<Record<Family, IntervalSet>> = {
  ipv4: [0, 2 ** 32],
  ipv6: [0n, 1n << 128n],
};

/** The number an IPv4 address is, or undefined when the text is none. Exactly four decimal parts, no leading zeros (octal to some). */
export function parseIPv4(text: string): number | undefined {
  let value = 0;
  let part = -1;
  let parts = 0;
  for (let at = 0; at <= text.length; at++) {
    const code = at < text.length ? text.charCodeAt(at) : 46;
    if (code === 46) {
      if (part < 0 || part > 255) return undefined;
      value = value * 256 + part;
      part = -1;
      parts++;
    } else if (code >= 48 && code <= 57) {
      if (part === 0) return undefined;
      part = (part < 0 ? 0 : part) * 10 + code - 48;
      if (part > 255) return undefined;
    } else {
      return undefined;
    }
  }
  return parts === 4 ? value : undefined;
}

/** The number an IPv6 address is (RFC 4291 §2.2, dotted tail allowed), or undefined when the text is none. */
export function parseIPv6(text: string): bigint | undefined {
  let body = text;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted) {
    const tail = parseIPv4(dotted[2]!);
    if (tail === undefined) return undefined;
    body = `${dotted[1]}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`;
  }
  const halves = body.split('::');
  if (halves.length > 2) return undefined;
  const groupsOf = (half: string): string[] => (half === '' ? [] : half.split(':'));
  const head = groupsOf(halves[0]!);
  const tail = halves.length === 2 ? groupsOf(halves[1]!) : [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  let value = 0n;
  for (const group of [...head, ...Array<string>(halves.length === 2 ? missing : 0).fill('0'), ...tail]) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
    value = (value << 16n) | BigInt(Number.parseInt(group, 16));
  }
  return value;
}

export const parseAddress = (family: Family, text: string): Bound | undefined =>
  family === 'ipv4' ? parseIPv4(text) : parseIPv6(text);

const BITS: Readonly<Record<Family, number>> = { ipv4: 32, ipv6: 128 };

/**
 * The addresses that `a.b.c.d`, `a.b.c.d/len` or `a.b.c.d/m.m.m.m` names; undefined when it names none (a host name,
 * a mask with holes). Host bits below the mask are cleared, as the kernel does.
 */
export function addressBlock(family: Family, text: string): IntervalSet | undefined {
  const slash = text.indexOf('/');
  const base = parseAddress(family, slash < 0 ? text : text.slice(0, slash));
  const length = slash < 0 ? BITS[family] : prefixLength(family, text.slice(slash + 1));
  // iptables does not look at what stands before `/0` (xtables_ipparse_any): `0/0`, `any/0`.
  if (length === 0) return EVERY_ADDRESS[family];
  if (base === undefined || length === undefined) return undefined;
  if (typeof base === 'number') {
    const size = 2 ** (32 - length);
    const from = Math.floor(base / size) * size;
    return interval(from, from + size);
  }
  const size = 1n << BigInt(128 - length);
  const from = (base / size) * size;
  return interval(from, from + size);
}

/** A prefix length from `24` or, for IPv4, from `255.255.255.0`; the same for IPv6 masks. */
export function prefixLength(family: Family, text: string): number | undefined {
  if (/^(0|[1-9]\d{0,2})$/.test(text)) {
    const length = Number(text);
    return length <= BITS[family] ? length : undefined;
  }
  const mask = parseAddress(family, text);
  if (mask === undefined) return undefined;
  const bits = BigInt(mask);
  const width = BigInt(BITS[family]);
  const inverse = (1n << width) - 1n - bits;
  if ((inverse & (inverse + 1n)) !== 0n) return undefined;
  return BITS[family] - inverse.toString(2).replace(/^0$/, '').length;
}

/** An address as the kernel prints it: dotted for IPv4, RFC 5952 for IPv6. */
export function formatAddress(family: Family, value: Bound): string {
  if (family === 'ipv4') {
    const n = Number(value);
    return [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join('.');
  }
  const v6 = BigInt(value);
  const groups = Array.from({ length: 8 }, (_, at) => Number((v6 >> BigInt(112 - 16 * at)) & 0xffffn));
  let run = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let end = at;
    while (end < 8 && groups[end] === 0) end++;
    if (end - at > run.length) run = { at, length: end - at };
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  if (run.at < 0) return hex(groups);
  return `${hex(groups.slice(0, run.at))}::${hex(groups.slice(run.at + run.length))}`;
}
