import type { Family } from 'node-iptables';
import { TCP_FLAG, readTcpFrame } from 'node-iptables/netlink';
import { IMDS_BYTES } from '../addresses.ts';

/** One connection, as the node's interfaces saw it. */
export interface Sighting {
  /** Where its SYN came in: the host's end of the pod's interface. */
  readonly cameFrom: readonly number[];
  /** Where its SYN went out. */
  readonly leftBy: readonly number[];
  /** What keeps a router from passing its SYN on, whatever its rules are; undefined where it came at least once as hosts send it. */
  readonly flaw?: string;
  /** The address that its SYN came with. */
  readonly source: Buffer;
  /** The TTL its SYN began with, and left with. */
  readonly ttlIn?: number;
  readonly ttlOut?: number;
  /** Packets of the other side that came to the node, and by which interface. */
  readonly answers: readonly SeenAnswer[];
}

export interface SeenAnswer {
  readonly interfaceIndex: number;
  readonly outgoing: boolean;
  readonly ttl: number;
  readonly flags: number;
  readonly payloadBytes: number;
}

/** More packets than this one probe does not make. */
const MOST_PACKETS = 100_000;

interface Packet {
  readonly family: Family;
  readonly source: Buffer;
  readonly flaw: string | undefined;
  readonly interfaceIndex: number;
  readonly outgoing: boolean;
  readonly ttl: number;
  readonly flags: number;
  readonly payloadBytes: number;
  readonly sourcePort: number;
  readonly sequence: number;
  readonly acknowledged: number;
}

/**
 * Packets to and from IMDS that passed the node's interfaces. A connection is followed by its first sequence number: ports and
 * addresses are translated on the way (the VPC CNI masquerades, with random ports), sequence numbers are not.
 */
export class Sightings {
  /** How many the kernel could not keep: what was not seen may have been among them. */
  lost = 0;
  private readonly requests: Packet[] = [];
  private readonly answers: Packet[] = [];
  /** Made when they are wanted: a flood is looked through once, not once for each connection. */
  private indexes: { readonly byPort: Index; readonly bySequence: Index; readonly byAcknowledged: Index } | undefined;

  /**
   * @param bytes from the IP header on; may be of anybody
   * @param forAnother whether its frame was for another's MAC address
   */
  add(interfaceIndex: number, outgoing: boolean, bytes: Buffer, forAnother = false): void {
    const frame = readTcpFrame(bytes);
    if (!frame) return;
    const toImds = isImds(frame.family, frame.destination);
    const list = toImds ? this.requests : this.answers;
    if (list.length >= MOST_PACKETS) {
      this.lost += 1;
      return;
    }
    const { family, ttl, flags, payloadBytes, sourcePort, sequence, acknowledged } = frame;
    list.push({ family, interfaceIndex, outgoing, ttl, flags, payloadBytes, sourcePort, sequence, acknowledged, source: Buffer.from(frame.source), flaw: forAnother ? 'its frame was for nobody on the node' : frame.flaw });
    this.indexes = undefined;
  }

  /**
   * The connection that was begun from this local port.
   *
   * @param from interfaces that it may have come in by; undefined where any will do, empty for one of the node itself
   */
  of(port: number, family: Family, from: ReadonlySet<number> | undefined): Sighting | undefined {
    const { byPort, bySequence, byAcknowledged } = (this.indexes ??= {
      byPort: Map.groupBy(this.requests.filter(isSyn), ({ sourcePort }) => sourcePort),
      bySequence: Map.groupBy(this.requests.filter(isSyn), ({ sequence }) => sequence),
      byAcknowledged: Map.groupBy(this.answers, ({ acknowledged }) => blockOf(acknowledged)),
    });
    const first = byPort.get(port)?.find((one) => one.family === family && (from === undefined ? true : from.size === 0 ? one.outgoing : !one.outgoing && from.has(one.interfaceIndex)));
    if (!first) return undefined;
    const syns = bySequence.get(first.sequence) ?? [];
    const left = syns.filter(({ outgoing }) => outgoing);
    const came = syns.filter(({ outgoing }) => !outgoing);
    const flaw = came.some((one) => one.flaw === undefined) ? undefined : came[0]?.flaw;
    return {
      source: first.source,
      ...(flaw === undefined ? {} : { flaw }),
      cameFrom: indexesOf(came),
      leftBy: indexesOf(left),
      ...(came[0] ? { ttlIn: came[0].ttl } : {}),
      ...(left[0] ? { ttlOut: left[0].ttl } : {}),
      answers: [first.sequence, first.sequence + MOST_REQUEST_BYTES].flatMap((at) => byAcknowledged.get(blockOf(at)) ?? []).filter(({ acknowledged }) => isWithin(acknowledged, first.sequence)),
    };
  }
}

type Index = ReadonlyMap<number, readonly Packet[]>;

/** A request of ours is shorter. */
const MOST_REQUEST_BYTES = 2048;
const blockOf = (sequence: number): number => (sequence >>> 0) >>> 11;
const isWithin = (acknowledged: number, first: number): boolean => {
  const distance = (acknowledged - first) >>> 0;
  return distance >= 1 && distance <= MOST_REQUEST_BYTES;
};

const isSyn = ({ flags }: Packet): boolean => (flags & (TCP_FLAG.SYN | TCP_FLAG.ACK)) === TCP_FLAG.SYN;
const indexesOf = (packets: readonly Packet[]): number[] => [...new Set(packets.map(({ interfaceIndex }) => interfaceIndex))];
const isImds = (family: Family, address: Buffer): boolean => address.equals(Buffer.from(IMDS_BYTES[family]));
