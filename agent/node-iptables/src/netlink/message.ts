/** A netlink message: `struct nlmsghdr` and what follows it (linux/netlink.h). Header fields are in the machine's order, little-endian here. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** The port of the socket that asked, or whose request led to this notification; 0 for the kernel itself. */
  readonly port: number;
  readonly body: Buffer;
}

export const NLM_F = { REQUEST: 1, MULTI: 2, ACK: 4, DUMP_INTR: 0x10, DUMP: 0x300, CREATE: 0x400, EXCL: 0x200, APPEND: 0x800 } as const;
/** Types below 16 are netlink's own. */
export const NLMSG = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4, FIRST_OF_PROTOCOL: 16 } as const;

const HEADER = 16;
const align = (length: number): number => (length + 3) & ~3;

/** Every whole message of a datagram. What is cut off at its end (a receive buffer too small) is left out. */
export function messagesOf(datagram: Buffer): Message[] {
  const out: Message[] = [];
  for (let at = 0; at + HEADER <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER || at + length > datagram.length) break;
    out.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      port: datagram.readUInt32LE(at + 12),
      body: datagram.subarray(at + HEADER, at + length),
    });
    at += align(length);
  }
  return out;
}

/**
 * The error number of an NLMSG_ERROR: 0 for an acknowledgement; undefined for any other message. The body holds
 * `-errno` and the header of the message that is answered.
 */
export const errorOf = (message: Message): number | undefined =>
  message.type === NLMSG.ERROR && message.body.length >= 4 ? -message.body.readInt32LE(0) : undefined;

export interface MessageFields {
  readonly type: number;
  readonly flags: number;
  readonly sequence?: number;
  readonly body: Buffer;
}

export function messageBytes({ type, flags, sequence = 0, body }: MessageFields): Buffer {
  const out = Buffer.alloc(align(HEADER + body.length));
  out.writeUInt32LE(HEADER + body.length, 0);
  out.writeUInt16LE(type, 4);
  out.writeUInt16LE(flags, 6);
  out.writeUInt32LE(sequence, 8);
  body.copy(out, HEADER);
  return out;
}

/** `struct nlattr`: the two highest bits of the type are flags (nested, byte order). */
const TYPE_MASK = 0x3fff;
const NESTED = 0x8000;

/** Calls back for each attribute from an offset on, without copying; stops at what is malformed. */
export function eachAttribute(buffer: Buffer, from: number, visit: (type: number, value: Buffer) => void): void {
  for (let at = from; at + 4 <= buffer.length; ) {
    const length = buffer.readUInt16LE(at);
    if (length < 4 || at + length > buffer.length) return;
    visit(buffer.readUInt16LE(at + 2) & TYPE_MASK, buffer.subarray(at + 4, at + length));
    at += align(length);
  }
}

/** The last value of each attribute. */
export function attributesOf(buffer: Buffer, from = 0): ReadonlyMap<number, Buffer> {
  const out = new Map<number, Buffer>();
  eachAttribute(buffer, from, (type, value) => out.set(type, value));
  return out;
}

export function attribute(type: number, value: Buffer): Buffer {
  const out = Buffer.alloc(align(4 + value.length));
  out.writeUInt16LE(4 + value.length, 0);
  out.writeUInt16LE(type, 2);
  value.copy(out, 4);
  return out;
}

export const nested = (type: number, ...inner: readonly Buffer[]): Buffer => attribute(type | NESTED, Buffer.concat(inner));
export const textAttribute = (type: number, text: string): Buffer => attribute(type, Buffer.from(`${text}\0`, 'latin1'));
/** nfnetlink's numbers are big-endian. */
export const numberAttribute = (type: number, value: number): Buffer => attribute(type, bigEndian(value));
export const longAttribute = (type: number, value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return attribute(type, bytes);
};

export function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value | 0);
  return bytes;
}

/** A name up to its NUL. Names are bytes to the kernel; latin1 keeps each of them. */
export function textOf(value: Buffer | undefined): string {
  if (value === undefined) return '';
  const end = value.indexOf(0);
  return value.toString('latin1', 0, end < 0 ? value.length : end);
}
export const numberOf = (value: Buffer | undefined): number | undefined => (value !== undefined && value.length >= 4 ? value.readUInt32BE(0) : undefined);
export const longOf = (value: Buffer | undefined): bigint | undefined => (value !== undefined && value.length >= 8 ? value.readBigUInt64BE(0) : undefined);
