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
  };
}
