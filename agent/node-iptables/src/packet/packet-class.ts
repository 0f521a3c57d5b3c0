import { type Family, EVERY_ADDRESS } from '../sets/address.ts';
import { type Bits, UNKNOWN_BITS, coversBits, hullBits, knownBits, matchBits, sameBits, takeBits } from '../sets/bits.ts';
import { type IntervalSet, covers, intersect, interval, isEmpty, join } from '../sets/interval-set.ts';
import { ANY_NAME, type NameSet, hasName, intersectNames, patternCovers, subtractNames } from '../sets/name-set.ts';

/**
 * A class of packets: every combination of one value from each field. Rules cut classes into smaller classes, so a
 * verdict about a class is a verdict about every packet in it.
 */
export interface PacketClass {
  readonly family: Family;
  readonly iif: NameSet;
  readonly oif: NameSet;
  readonly src: IntervalSet;
  readonly dst: IntervalSet;
  /** IP protocol numbers, 0 to 255. */
  readonly proto: IntervalSet;
  readonly sport: IntervalSet;
  readonly dport: IntervalSet;
  /** Bit set of CT_STATE: what conntrack calls the packet. Before conntrack has seen it, what it will call it. */
  readonly ctstate: number;
  /** Bit set of CT_DIRECTION. */
  readonly ctdir: number;
  /** Bits of CT_STATUS. */
  readonly ctstatus: Bits;
  readonly mark: Bits;
  readonly connmark: Bits;
  /** Bits of TCP_FLAGS. */
  readonly flags: Bits;
  /** Whether conntrack has seen the packet yet. Until then every rule sees state INVALID, and no connection. */
  readonly tracked: boolean;
  /** Whether the destination is an address of this node. */
  readonly toNode: boolean;
  /** Why it is not certain that such a packet gets here: matches that could not be decided on the way. */
  readonly doubts: Doubts | undefined;
}

/** A list that grows at its head and is shared between the classes that came from one. */
export interface Doubts {
  readonly doubt: Doubt;
  readonly earlier: Doubts | undefined;
}
export interface Doubt {
  /** 'unread': words we cannot read. 'state': depends on what no ruleset shows (a rate, a set, a clock). 'size': given
   *  up for size, so that the class is larger than the truth. 'order': two chains whose order is not known. */
  readonly kind: 'unread' | 'state' | 'size' | 'order';
  readonly why: string;
  /** The rule in whose reading the doubt arose; opaque here. */
  readonly at: unknown;
}

/** linux/netfilter/nf_conntrack_common.h by name; the values are ours. */
export const CT_STATE = { NEW: 1, ESTABLISHED: 2, RELATED: 4, INVALID: 8, UNTRACKED: 16 } as const;
export const CT_DIRECTION = { ORIGINAL: 1, REPLY: 2 } as const;
/** enum ip_conntrack_status. */
export const CT_STATUS = { EXPECTED: 1, SEEN_REPLY: 2, ASSURED: 4, CONFIRMED: 8, SNAT: 16, DNAT: 32 } as const;
/** The flags byte of a TCP header, RFC 9293 §3.1. */
export const TCP_FLAGS = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ECE: 64, CWR: 128 } as const;

export const EVERY_PROTO = interval(0, 256);
export const EVERY_PORT = interval(0, 65536);
export const TCP = interval(6, 7);
export const UDP = interval(17, 18);

/** Every packet of a family that begins a conversation, with no mark: the class to narrow. */
export const anyPacket = (family: Family): PacketClass => ({
  family,
  iif: ANY_NAME,
  oif: ANY_NAME,
  src: EVERY_ADDRESS[family],
  dst: EVERY_ADDRESS[family],
  proto: EVERY_PROTO,
  sport: EVERY_PORT,
  dport: EVERY_PORT,
  ctstate: CT_STATE.NEW,
  ctdir: CT_DIRECTION.ORIGINAL,
  ctstatus: UNKNOWN_BITS,
  mark: knownBits(0),
  connmark: knownBits(0),
  flags: UNKNOWN_BITS,
  tracked: false,
  toNode: false,
  doubts: undefined,
});

/** The state a rule sees: conntrack's, once it has looked (xt_conntrack.c: no connection and not UNTRACKED is INVALID). */
export const seenState = (packet: PacketClass): number =>
  packet.tracked || packet.ctstate === CT_STATE.UNTRACKED ? packet.ctstate : CT_STATE.INVALID;

/** Whether the packet belongs to a connection that rules can ask about and mark. */
export const hasConnection = (packet: PacketClass): boolean =>
  packet.tracked && (packet.ctstate & (CT_STATE.NEW | CT_STATE.ESTABLISHED | CT_STATE.RELATED)) !== 0;

export const doubting = (packet: PacketClass, doubt: Doubt): PacketClass => ({
  ...packet,
  doubts: { doubt, earlier: packet.doubts },
});

/** The doubts of a class, the first met first, each once. */
export function doubtsOf(packet: PacketClass): Doubt[] {
  const seen = new Set<Doubt>();
  for (let link = packet.doubts; link; link = link.earlier) seen.add(link.doubt);
  return [...seen].reverse();
}

const INTERVAL_FIELDS = ['src', 'dst', 'proto', 'sport', 'dport'] as const;
const BIT_FIELDS = ['ctstatus', 'mark', 'connmark', 'flags'] as const;

/** Whether every packet of `b` is in `a`. Doubts play no part. */
export function includesClass(a: PacketClass, b: PacketClass): boolean {
  return (
    namesCover(a.iif, b.iif) &&
    namesCover(a.oif, b.oif) &&
    (b.ctstate & ~a.ctstate) === 0 &&
    (b.ctdir & ~a.ctdir) === 0 &&
    a.tracked === b.tracked &&
    a.toNode === b.toNode &&
    BIT_FIELDS.every((field) => coversBits(a[field], b[field])) &&
    INTERVAL_FIELDS.every((field) => a[field] === b[field] || covers(a[field], b[field]))
  );
}

/** A class that holds both, and perhaps more; it carries the doubts of the first. */
export const hull = (a: PacketClass, b: PacketClass): PacketClass =>
  includesClass(a, b)
    ? a
    : {
        ...a,
        iif: hullNames(a.iif, b.iif),
        oif: hullNames(a.oif, b.oif),
        src: hullIntervals(a.src, b.src),
        dst: hullIntervals(a.dst, b.dst),
        proto: hullIntervals(a.proto, b.proto),
        sport: hullIntervals(a.sport, b.sport),
        dport: hullIntervals(a.dport, b.dport),
        ctstatus: hullBits(a.ctstatus, b.ctstatus),
        mark: hullBits(a.mark, b.mark),
        connmark: hullBits(a.connmark, b.connmark),
        flags: hullBits(a.flags, b.flags),
        ctstate: a.ctstate | b.ctstate,
        ctdir: a.ctdir | b.ctdir,
      };

/** One class for two that differ in one interval field only, exactly; otherwise undefined. */
export function mergeExactly(a: PacketClass, b: PacketClass): PacketClass | undefined {
  if (a.tracked !== b.tracked || a.toNode !== b.toNode) return undefined;
  if (a.ctstate !== b.ctstate || a.ctdir !== b.ctdir || !sameNames(a.iif, b.iif) || !sameNames(a.oif, b.oif)) return undefined;
  if (BIT_FIELDS.some((field) => !sameBits(a[field], b[field]))) return undefined;
  const differing = INTERVAL_FIELDS.filter((field) => !sameIntervals(a[field], b[field]));
  if (differing.length > 1) return undefined;
  const field = differing[0];
  return field === undefined ? a : { ...a, [field]: join(a[field], b[field]) };
}

/** The packets that are in both, with the doubts of the first; undefined when there are none. */
export function intersectClass(a: PacketClass, b: PacketClass): PacketClass | undefined {
  const iif = intersectNameSets(a.iif, b.iif);
  const oif = intersectNameSets(a.oif, b.oif);
  const ctstate = a.ctstate & b.ctstate;
  const ctdir = a.ctdir & b.ctdir;
  if (!iif || !oif || ctstate === 0 || ctdir === 0) return undefined;
  const fields: Partial<Record<(typeof INTERVAL_FIELDS)[number], IntervalSet>> = {};
  for (const field of INTERVAL_FIELDS) {
    const both = intersect(a[field], b[field]);
    if (isEmpty(both)) return undefined;
    fields[field] = both;
  }
  const bits: Partial<Record<(typeof BIT_FIELDS)[number], Bits>> = {};
  for (const field of BIT_FIELDS) {
    if (matchBits(a[field], b[field].value, b[field].known) === 'none') return undefined;
    bits[field] = takeBits(a[field], b[field].value, b[field].known);
  }
  return { ...a, iif, oif, ctstate, ctdir, ...fields, ...bits };
}

function intersectNameSets(a: NameSet, b: NameSet): NameSet | undefined {
  let both = intersectNames(a, b);
  for (const hole of b.except) both = both && subtractNames(both, hole);
  return both;
}

const namesCover = (a: NameSet, b: NameSet): boolean =>
  patternCovers(a, b) &&
  a.except.every((hole) =>
    b.except.some((known) => patternCovers(known, hole)) || (!patternCovers(b, hole) && !patternCovers(hole, b)),
  );

const sameNames = (a: NameSet, b: NameSet): boolean => a === b || (namesCover(a, b) && namesCover(b, a));

const sameIntervals = (a: IntervalSet, b: IntervalSet): boolean =>
  a === b || (a.length === b.length && a.every((bound, at) => bound === b[at]));

function hullNames(a: NameSet, b: NameSet): NameSet {
  if (namesCover(a, b)) return a;
  if (namesCover(b, a)) return b;
  let length = 0;
  while (length < a.prefix.length && a.prefix[length] === b.prefix[length]) length++;
  const except = [...a.except, ...b.except].filter(
    (hole) => !hole.open && !hasName(a, hole.prefix) && !hasName(b, hole.prefix) && hole.prefix.startsWith(a.prefix.slice(0, length)),
  );
  return { prefix: a.prefix.slice(0, length), open: true, except };
}

/** From the lowest to the highest of both: what a hull is for is being small. */
const hullIntervals = (a: IntervalSet, b: IntervalSet): IntervalSet => {
  if (covers(a, b)) return a;
  const [low, high] = [a[0]! < b[0]! ? a[0]! : b[0]!, a.at(-1)! > b.at(-1)! ? a.at(-1)! : b.at(-1)!];
  return interval(low, high);
};
