import type { Family } from '../sets/address.ts';

/** A TCP packet as it passed an interface, read as far as telling one connection from another takes. */
export interface TcpFrame {
  readonly family: Family;
  readonly source: Buffer;
  readonly destination: Buffer;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** `ip ttl`, `ip6 hoplimit`. */
  readonly ttl: number;
  readonly sequence: number;
  readonly acknowledged: number;
  readonly flags: number;
  readonly payloadBytes: number;
  /** What keeps a router from passing it on, whatever its rules are; undefined for a packet as hosts send them. */
  readonly flaw: string | undefined;
}

export const TCP_FLAG = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16 } as const;
const TCP = 6;

/** @param bytes from the IP header on; undefined for what is no TCP, or is cut off before the end of its header */
export function readTcpFrame(bytes: Buffer): TcpFrame | undefined {
  const ipv4 = (bytes[0] ?? 0) >> 4 === 4;
  const at = ipv4 ? (bytes[0]! & 0xf) * 4 : 40;
  if (bytes.length < at + 20 || (!ipv4 && bytes[0]! >> 4 !== 6) || bytes[ipv4 ? 9 : 6] !== TCP) return undefined;
  const total = ipv4 ? bytes.readUInt16BE(2) : 40 + bytes.readUInt16BE(4);
  return {
    family: ipv4 ? 'ipv4' : 'ipv6',
    source: ipv4 ? bytes.subarray(12, 16) : bytes.subarray(8, 24),
    destination: ipv4 ? bytes.subarray(16, 20) : bytes.subarray(24, 40),
    sourcePort: bytes.readUInt16BE(at),
    destinationPort: bytes.readUInt16BE(at + 2),
    ttl: bytes[ipv4 ? 8 : 7]!,
    sequence: bytes.readUInt32BE(at + 4),
    acknowledged: bytes.readUInt32BE(at + 8),
    flags: bytes[at + 13]!,
    payloadBytes: Math.max(0, total - at - (bytes[at + 12]! >> 4) * 4),
    flaw: flawOf(bytes, ipv4, at, total),
  };
}

const MORE_FRAGMENTS = 0x2000;
/** All but those of congestion (ECE, CWR). */
const FLAGS = 0x3f;

function flawOf(bytes: Buffer, ipv4: boolean, at: number, total: number): string | undefined {
  const ttl = bytes[ipv4 ? 8 : 7]!;
  const flags = bytes[at + 13]! & FLAGS;
  if (ttl <= 1) return `its TTL is ${ttl}`;
  if (ipv4 && at !== 20) return 'it has IP options';
  if (ipv4 && (bytes.readUInt16BE(6) & MORE_FRAGMENTS) !== 0) return 'it is a fragment';
  if (ipv4 && sumOf(bytes.subarray(0, 20)) !== 0xffff) return 'the checksum of its IP header is wrong';
  if (total < at + 20 || bytes[at + 12]! >> 4 < 5) return 'it is cut off';
  if ((flags & TCP_FLAG.SYN) !== 0 && flags !== TCP_FLAG.SYN && flags !== (TCP_FLAG.SYN | TCP_FLAG.ACK)) return 'its TCP flags contradict each other';
  return undefined;
}

/** The sum of the internet checksum (RFC 1071): all ones where it is right. */
function sumOf(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
