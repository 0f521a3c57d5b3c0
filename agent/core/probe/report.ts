import type { Family } from 'node-iptables';
import type { Answer, Reason } from '../reasons.ts';

/**
 * What became of one exchange with IMDS, told apart by what the pod got back and by the packets that were seen on the
 * node's interfaces meanwhile. README of the classes: agent/commands/probe.md.
 */
export type ProbeClass =
  /** Answered with what was asked for: a token, or metadata. */
  | 'open'
  /** The node saw the SYN come out of the pod, and no answer came. */
  | 'dropped'
  /** The node saw the SYN come out of the pod, and a reset or an ICMP error came back. */
  | 'rejected'
  /** The connection stands, and the token's answer came as far as the node: its TTL does not reach the pod. */
  | 'hop-limit'
  /** 401 to a GET without a token: IMDS answers pods, and only version 2. */
  | 'v1-off'
  /** 403: IMDS is switched off for this instance, or forbids what was asked. */
  | 'forbidden'
  /** 429 or 503. */
  | 'throttled'
  /** Something answers whose connection never left the node, or the pod: kube2iam, a mesh, a listener. Never blocked. */
  | 'proxied'
  /** The pod has no address or no route of this family: nothing was sent. */
  | 'no-route'
  /** Not asked for, for what a token gave told enough: each GET without one counts in MetadataNoToken, which people wait to see at 0. */
  | 'not-asked'
  /** None of these could be told; `because` says why. */
  | 'inconclusive';

export interface Exchange {
  readonly class: ProbeClass;
  readonly because: string;
  /** Whether a TCP connection to somebody beyond the node stood: then packets pass, whatever IMDS says. */
  readonly connected: boolean;
  /** Where the one who answers is, of a class `proxied`. */
  readonly by?: 'pod' | 'node';
  /** The HTTP status, where one came. */
  readonly status?: number;
}

/** A pod, as far as its name is known. */
export interface PodIdentity {
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
}

/** One pod's network (or the node itself), in one family. */
export interface NetworkProbe {
  /** Empty for the node, and where nothing tells which pod it is. */
  readonly pods: readonly PodIdentity[];
  /** `/run/netns/cni-…`, `/proc/4711/ns/net`; `node` for the node itself. */
  readonly networkNamespace: string;
  readonly family: Family;
  /** The host's interface that the SYN came out of; where it was not seen, those of the pod: `eth0 (macvlan)`, and the host's ends of its veths. */
  readonly interfaces: readonly string[];
  /** The host's ends of its veths that no packet of this family was seen to come out of: what the pod may send there was not tried. */
  readonly otherWays: readonly string[];
  /** Its ways out that need not meet a rule of the node, whichever way its packets went: `net1 (macvlan)`, `vethb0 (bridged)`. */
  readonly unruled: readonly string[];
  /** `eni+`, `macvlan`; `node`. */
  readonly kind: string;
  /** The worst of the two: open, proxied, throttled, forbidden, hop-limit, v1-off, inconclusive, no-route, rejected, dropped. */
  readonly class: ProbeClass;
  readonly v1: Exchange;
  readonly v2: Exchange;
  /** A packet was answered by somebody beyond the node, for certain: seen on the node's interfaces, or sent by an interface of another kind. */
  readonly reached: boolean;
  /** How often packets of the pod are routed before they leave the node; undefined where none was seen to leave. */
  readonly hops?: number;
  /** The TTL with which the token's answer came to the node. */
  readonly tokenTtl?: number;
}

export interface ProbeReport {
  /** What the probes alone say: `blocked` only when every network that was tried is kept out and the node itself is not. */
  readonly answer: Answer;
  readonly reason: Reason;
  /** What the reason does not say. */
  readonly message: string;
  /** The same from the node's own network: without an answer to it, silence elsewhere tells nothing. Empty where nothing was tried. */
  readonly control: readonly NetworkProbe[];
  /** The TTL of token answers as they come to the node: HttpPutResponseHopLimit on the wire. */
  readonly hopLimit: { readonly ipv4?: number; readonly ipv6?: number };
  readonly networks: readonly NetworkProbe[];
  /** What was not tried, and why. */
  readonly skipped: readonly { readonly networkNamespace: string; readonly because: string }[];
  /** Kinds of interface, and single ones of other kinds, that lead into namespaces which are not in sight: what pods behind them can do was not tried. */
  readonly uncovered: readonly string[];
  /** Pod networks that were found; `networks` may be some of each kind. */
  readonly found: number;
  readonly tookMs: number;
}
