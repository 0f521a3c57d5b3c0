import type { Family } from '../sets/address.ts';
import { type Message, NLM_F, attribute, attributesOf, messageBytes } from './message.ts';

const RTM = { NEWADDR: 20, GETADDR: 22, NEWROUTE: 24, GETROUTE: 26 } as const;
const AF = { ipv4: 2, ipv6: 10 } as const;
/** struct rtmsg (linux/rtnetlink.h) */
const RTMSG = 12;
const RTA = { DST: 1, SRC: 2, IIF: 3, OIF: 4 } as const;
const RTN_UNICAST = 1;

export interface RouteQuestion {
  readonly family: Family;
  readonly destination: Buffer;
  readonly source?: Buffer;
  /** The interface that such a packet comes in by; without it, one of the node itself. */
  readonly from?: number;
}

/** Which way does a packet go? The kernel answers by all of its rules and tables. */
export function askRoute({ family, destination, source, from }: RouteQuestion): Buffer {
  const header = Buffer.alloc(RTMSG);
  header[0] = AF[family];
  header[1] = destination.length * 8;
  header[2] = source === undefined ? 0 : source.length * 8;
  const index = Buffer.alloc(4);
  index.writeInt32LE(from ?? 0);
  const parts = [header, attribute(RTA.DST, destination), ...(source === undefined ? [] : [attribute(RTA.SRC, source)]), ...(from === undefined ? [] : [attribute(RTA.IIF, index)])];
  return messageBytes({ type: RTM.GETROUTE, flags: NLM_F.REQUEST, body: Buffer.concat(parts) });
}

/** The interface that it leaves by; undefined where it is delivered here, or goes nowhere. */
export function readRoute({ type, body }: Message): number | undefined {
  if (type !== RTM.NEWROUTE || body.length < RTMSG || body[7] !== RTN_UNICAST) return undefined;
  const out = attributesOf(body, RTMSG).get(RTA.OIF);
  return out && out.length >= 4 ? out.readInt32LE(0) : undefined;
}

/** struct ifaddrmsg (linux/if_addr.h) */
const IFADDRMSG = 8;
const IFA_ADDRESS = 1;

export function listAddresses(family: Family): Buffer {
  const header = Buffer.alloc(IFADDRMSG);
  header[0] = AF[family];
  return messageBytes({ type: RTM.GETADDR, flags: NLM_F.REQUEST | NLM_F.DUMP, body: header });
}

/** @returns whether this is an address to be reached at from another link: none of loopback (127.0.0.0/8, ::1) and none of one link (fe80::/10) */
export function isReachableAddress({ type, body }: Message): boolean {
  const address = type === RTM.NEWADDR && body.length >= IFADDRMSG ? attributesOf(body, IFADDRMSG).get(IFA_ADDRESS) : undefined;
  if (!address) return false;
  if (body[0] === AF.ipv4) return address[0] !== 127;
  return !(address[0] === 0xfe && (address[1]! & 0xc0) === 0x80) && !(address.subarray(0, 15).every((byte) => byte === 0) && address[15] === 1);
}
