import { formatAddress } from '../sets/address.ts';
import { type IntervalSet, includes } from '../sets/interval-set.ts';
import { patternText, pickName } from '../sets/name-set.ts';
import { CT_STATE, type PacketClass } from './packet-class.ts';

/** One packet of a class, in words. */
export interface Packet {
  readonly in: string;
  readonly out: string;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly state: string;
  readonly mark: string;
}

/** What to pick where the class leaves a choice, the likeliest first. */
export interface Likely {
  readonly interfaces: readonly string[];
  /** For the interface a packet comes in by, before the others. */
  readonly incoming?: readonly string[];
  readonly sourcePort: number;
}

/**
 * One packet of the class; undefined when no name or value could be found. Marks and the status of the connection are
 * not picked: the sender does not choose them, so what is said of the packet has to hold whatever they are.
 */
export function pickOne(packet: PacketClass, likely: Likely): PacketClass | undefined {
  const iif = pickName(packet.iif, [...(likely.incoming ?? []), ...likely.interfaces]);
  const oif = pickName(packet.oif, likely.interfaces);
  if (iif === undefined || oif === undefined) return undefined;
  const lowestState = packet.ctstate & -packet.ctstate;
  return {
    ...packet,
    iif: { prefix: iif, open: false, except: [] },
    oif: { prefix: oif, open: false, except: [] },
    src: one(packet.src),
    dst: one(packet.dst),
    proto: one(packet.proto),
    sport: includes(packet.sport, likely.sourcePort) ? [likely.sourcePort, likely.sourcePort + 1] : one(packet.sport),
    dport: one(packet.dport),
    ctstate: lowestState,
    ctdir: packet.ctdir & -packet.ctdir,
    flags: { known: 0xffffffff, value: packet.flags.value },
    doubts: undefined,
  };
}

/** How a picked packet reads. */
export const describePacket = (packet: PacketClass): Packet => ({
  in: patternText(packet.iif),
  out: patternText(packet.oif),
  source: formatAddress(packet.family, packet.src[0]!),
  destination: formatAddress(packet.family, packet.dst[0]!),
  protocol: Number(packet.proto[0]!),
  sourcePort: Number(packet.sport[0]!),
  destinationPort: Number(packet.dport[0]!),
  state: stateNames(packet.ctstate).join(','),
  mark: packet.mark.known === 0xffffffff ? `0x${packet.mark.value.toString(16)}` : 'unknown',
});

export const stateNames = (states: number): string[] =>
  Object.entries(CT_STATE).flatMap(([name, bit]) => ((states & bit) !== 0 ? [name] : []));

/** The second value of the first interval where it has one: `10.0.0.1` reads better than `10.0.0.0`. */
function one(set: IntervalSet): IntervalSet {
  const [from, below] = [set[0]!, set[1]!];
  const next = typeof from === 'number' ? from + 1 : from + 1n;
  const after = typeof next === 'number' ? next + 1 : next + 1n;
  return next < below && set.length > 0 && isWide(from, below) ? [next, after] : [from, next];
}
const isWide = (from: number | bigint, below: number | bigint): boolean => BigInt(below) - BigInt(from) > 2n;
