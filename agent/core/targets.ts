import {
  CT_DIRECTION,
  CT_STATE,
  CT_STATUS,
  type Family,
  type IntervalSet,
  type NamePattern,
  type NameSet,
  type PacketClass,
  type Question,
  TCP,
  TCP_FLAGS,
  UNKNOWN_BITS,
  addressBlock,
  anyPacket,
  intersectNames,
  knownBits,
  namePattern,
  nameSet,
  pairsOf,
  patternCovers,
  union,
} from 'node-iptables';
import { IMDS, IMDS_PORT } from './addresses.ts';
import type { FoundPattern } from './observed.ts';
import type { Settings } from './settings.ts';

/** Whose packets are judged: all pods behind one interface pattern, in one family. */
export interface Target {
  /** `eni+ ipv4` */
  readonly name: string;
  readonly family: Family;
  readonly interface: string;
  /** 'branch': packets leave by a trunk that the same kind of name has (VPC CNI, strict mode). */
  readonly kind: 'pod' | 'branch';
  /** Where the pattern comes from. */
  readonly from: string;
}

/** One target for each pattern and family, the configured first, none twice. */
export function targetsOf(settings: Settings, found: readonly FoundPattern[], families: readonly Family[]): Target[] {
  const patterns = new Map<string, Pick<Target, 'kind' | 'from'>>();
  const add = (pattern: string, kind: Target['kind'], from: string): void => {
    const covered = [...patterns.keys()].some((known) => patternCovers(namePattern(known), namePattern(pattern)));
    if (!covered) patterns.set(pattern, { kind, from });
  };
  for (const pattern of settings.interfaces) add(pattern, 'pod', 'configuration');
  for (const pattern of settings.branchInterfaces) add(pattern, 'branch', 'configuration');
  if (settings.discover) for (const { pattern, from } of found) add(pattern, 'pod', from);
  return families.flatMap((family) =>
    [...patterns].map(([pattern, rest]): Target => ({ name: `${pattern} ${family}`, family, interface: pattern, ...rest })),
  );
}

/** Conntrack states, each asked about on its own. */
export type State = keyof typeof CT_STATE;

/**
 * The question "can a pod of this target hold a conversation with IMDS?", with packets in one conntrack state.
 *
 * @param startMark the mark packets start with; undefined: any
 * @param out the interface packets leave by, where that is taken for granted
 */
export function questionOf(target: Target, state: State, startMark: number | undefined, podPatterns: readonly string[], out?: NameSet): Question {
  const base = anyPacket(target.family);
  const oif = out ?? notToPods(podPatterns);
  const fresh = state === 'NEW';
  const request: PacketClass = {
    ...base,
    iif: nameSet(target.interface),
    oif,
    dst: addressBlock(target.family, IMDS[target.family])!,
    proto: TCP,
    dport: [IMDS_PORT, IMDS_PORT + 1],
    ctstate: CT_STATE[state],
    ctdir: CT_DIRECTION.ORIGINAL,
    ctstatus: fresh ? { known: ALL_STATUS, value: 0 } : UNKNOWN_BITS,
    mark: startMark === undefined ? UNKNOWN_BITS : knownBits(startMark),
    connmark: fresh ? knownBits(0) : UNKNOWN_BITS,
    flags: state === 'ESTABLISHED' || state === 'RELATED' ? DATA_FLAGS : SYN_FLAGS,
  };
  const likely: PacketClass = { ...request, src: LIKELY_SOURCES[target.family], sport: [1024, 65536] };
  return { request, likely, picks: { interfaces: LIKELY_OUT, incoming: LIKELY_IN, sourcePort: 40000 } };
}

/**
 * The question about every state that conntrack gives a packet, at once: blocked here is blocked in each of them, which
 * is the commonest answer on a guarded node and costs one walk in place of four.
 */
export function anyStateQuestionOf(target: Target, startMark: number | undefined, podPatterns: readonly string[], out?: NameSet): Question {
  const question = questionOf(target, 'ESTABLISHED', startMark, podPatterns, out);
  const request: PacketClass = { ...question.request, ctstate: CT_STATE.NEW | CT_STATE.ESTABLISHED | CT_STATE.RELATED | CT_STATE.INVALID, flags: UNKNOWN_BITS };
  return { ...question, request };
}

const ALL_STATUS = Object.values(CT_STATUS).reduce((bits, bit) => bits | bit, 0);
const HANDSHAKE = TCP_FLAGS.SYN | TCP_FLAGS.ACK | TCP_FLAGS.FIN | TCP_FLAGS.RST;
const SYN_FLAGS = { known: HANDSHAKE, value: TCP_FLAGS.SYN };
const DATA_FLAGS = { known: HANDSHAKE, value: TCP_FLAGS.ACK };

/** Any interface that is not the host side of a pod: IMDS is never behind one. */
export function notToPods(podPatterns: readonly string[]): NameSet {
  const except: NamePattern[] = podPatterns.map(namePattern);
  return { prefix: '', open: true, except };
}

/** `vlan+` for packets of branch-ENI pods; the trunk has a name of the same kind (`vlan.eth.1`). */
export const trunkOf = (target: Target): NameSet => nameSet(target.interface);

/** Names an AWS node really has, for the packet in a witness. */
const LIKELY_OUT = ['ens5', 'eth0', 'vlan.eth.1'] as const;
const LIKELY_IN = ['eni8ca2e41546c', 'vlan8ca2e41546c', 'veth1a2b3c4d'] as const;

const blocks = (family: Family, ...texts: readonly string[]): IntervalSet =>
  union(texts.flatMap((text) => pairsOf(addressBlock(family, text)!)));

/** Where pods get their addresses from: private and shared space (RFC 1918, RFC 6598), 169.254.172.0/22 for the IPv4
 *  egress of IPv6 pods (VPC CNI); IPv6 global unicast and unique local. */
const LIKELY_SOURCES: Readonly<Record<Family, IntervalSet>> = {
  ipv4: blocks('ipv4', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '169.254.172.0/22'),
  ipv6: blocks('ipv6', '2000::/3', 'fc00::/7'),
};

/** Whether a link with this name would be one of the target's. */
export const isOfPattern = (pattern: string, name: string): boolean => intersectNames(nameSet(name), namePattern(pattern)) !== undefined;
