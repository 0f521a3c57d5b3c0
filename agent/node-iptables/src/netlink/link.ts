import { type Message, NLM_F, attribute, attributesOf, messageBytes, textOf } from './message.ts';

export const NETLINK_ROUTE = 0;
/** Multicast groups of rtnetlink: links come and go; filters on them change. */
export const RTNLGRP = { LINK: 1, TC: 4 } as const;
const RTM = { NEWLINK: 16, DELLINK: 17, GETLINK: 18, NEWNSID: 88, GETNSID: 90, NEWQDISC: 36, DELQDISC: 37, NEWTFILTER: 44, DELTFILTER: 45 } as const;

/** What rtnetlink tells of a network interface, as far as packets care (linux/if_link.h). Everything of it in the machine's order. */
export type LinkEvent =
  | {
      readonly is: 'link';
      readonly change: 'new' | 'deleted';
      readonly index: number;
      readonly name: string;
      readonly kind: string;
      /** The index of the bridge (or bond) it is a port of; 0 for none. */
      readonly master: number;
      /** Whether its other end is in another network namespace. */
      readonly elsewhere: boolean;
      readonly xdp: boolean;
    }
  /** A queueing discipline or a filter of the link with this index. */
  | { readonly is: 'filter'; readonly index: number };

const AF_UNSPEC = 0;
const IFINFOMSG = 16;
const IFLA = { IFNAME: 3, LINK: 5, MASTER: 10, LINKINFO: 18, LINK_NETNSID: 37, XDP: 43 } as const;

/** Every link, each as the event of its coming. */
export const listLinks = (): Buffer => messageBytes({ type: RTM.GETLINK, flags: NLM_F.REQUEST | NLM_F.DUMP, body: Buffer.alloc(IFINFOMSG) });

const indexOf = (value: Buffer | undefined): number => (value !== undefined && value.length >= 4 ? value.readUInt32LE(0) : 0);

export function readLinkEvent({ type, body }: Message): LinkEvent | undefined {
  switch (type) {
    case RTM.NEWLINK:
    case RTM.DELLINK: {
      // A bridge tells of its ports in messages of its own family, which leave out most of what a link is.
      if (body.length < IFINFOMSG || body[0] !== AF_UNSPEC) return undefined;
      const attributes = attributesOf(body, IFINFOMSG);
      // IFLA_XDP is there always; IFLA_XDP_ATTACHED (2) in it is 0 for no program.
      const attached = attributesOf(attributes.get(IFLA.XDP) ?? Buffer.alloc(0)).get(2)?.[0] ?? 0;
      return {
        is: 'link',
        change: type === RTM.NEWLINK ? 'new' : 'deleted',
        index: body.readInt32LE(4),
        name: textOf(attributes.get(IFLA.IFNAME)),
        kind: textOf(attributesOf(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0)).get(1)),
        master: indexOf(attributes.get(IFLA.MASTER)),
        elsewhere: attributes.has(IFLA.LINK_NETNSID),
        xdp: attached !== 0,
      };
    }
    case RTM.NEWQDISC:
    case RTM.DELQDISC:
    case RTM.NEWTFILTER:
    case RTM.DELTFILTER:
      // struct tcmsg: family and padding, then the index.
      return body.length >= 8 ? { is: 'filter', index: body.readInt32LE(4) } : undefined;
    default:
      return undefined;
  }
}

/** A link as a list of them shows it: enough to tell whose other end it is. */
export interface ListedLink {
  readonly index: number;
  readonly name: string;
  /** `veth`, `macvlan`; empty for a card. */
  readonly kind: string;
  readonly loopback: boolean;
  /** The index of the link at its other end (veth) or below it (macvlan, vlan); 0 for none. */
  readonly peerIndex: number;
  /** What this namespace calls the one that `peerIndex` is of; undefined where that is this one itself. */
  readonly peerNamespace: number | undefined;
  readonly master: number;
}

const ARPHRD_LOOPBACK = 772;

/** @returns undefined for any message but one of a link */
export function readListedLink({ type, body }: Message): ListedLink | undefined {
  if (type !== RTM.NEWLINK || body.length < IFINFOMSG) return undefined;
  const attributes = attributesOf(body, IFINFOMSG);
  const namespace = attributes.get(IFLA.LINK_NETNSID);
  return {
    index: body.readInt32LE(4),
    name: textOf(attributes.get(IFLA.IFNAME)),
    kind: textOf(attributesOf(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0)).get(1)),
    loopback: body.readUInt16LE(2) === ARPHRD_LOOPBACK,
    peerIndex: indexOf(attributes.get(IFLA.LINK)),
    peerNamespace: namespace && namespace.length >= 4 ? namespace.readInt32LE(0) : undefined,
    master: indexOf(attributes.get(IFLA.MASTER)),
  };
}

/** struct rtgenmsg, padded; NETNSA_NSID, NETNSA_FD (linux/net_namespace.h) */
const RTGENMSG = 4;
const NETNSA = { NSID: 1, FD: 3 } as const;

/** By which number does the namespace that is asked know the one behind this descriptor? */
export const getNamespaceId = (fd: number): Buffer =>
  messageBytes({ type: RTM.GETNSID, flags: NLM_F.REQUEST, body: Buffer.concat([Buffer.alloc(RTGENMSG), numberInOrder(NETNSA.FD, fd)]) });

/** Undefined where it knows it by none: then no link leads there. */
export function readNamespaceId({ type, body }: Message): number | undefined {
  const value = type === RTM.NEWNSID ? attributesOf(body, RTGENMSG).get(NETNSA.NSID) : undefined;
  const id = value && value.length >= 4 ? value.readInt32LE(0) : -1;
  return id < 0 ? undefined : id;
}

/** rtnetlink keeps numbers in the machine's order, unlike nf_tables. */
function numberInOrder(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return attribute(type, bytes);
}
