import type { Family } from 'node-iptables';
import type { Sighting, Sightings } from './sightings.ts';
import type { Exchange, NetworkProbe, PodIdentity, ProbeClass } from './report.ts';
import type { Tried, TriedNetwork } from './tried.ts';

/** What is known of a network beside what was tried from it. */
export interface ProbedNetwork {
  readonly pods: readonly PodIdentity[];
  /** The host's ends of its veths, by index and name; empty for the node itself. */
  readonly hostInterfaces: ReadonlyMap<number, string>;
  /** `eni+`, `macvlan`; `node`. */
  readonly kind: string;
  /** Its interfaces that are no veth of this node: packets may pass where nobody sees them. `eth0 (macvlan)` */
  readonly strangers: readonly string[];
  /** One of them is a card, or lies on one of the node's: what went by it has left for certain. */
  readonly hasCard: boolean;
  /** Its veths on a bridge that leads out: it chooses whether its frames are routed. `vethb0 (bridged)` */
  readonly bridged: readonly string[];
  readonly isNode: boolean;
}

/** What is known of the node. */
export interface Ground {
  /** Undefined where nobody was permitted to look. */
  readonly sightings: Sightings | undefined;
  /** Why not. */
  readonly unseen: string | undefined;
  /** Every interface of the node that leads to a pod, or to the node itself (lo): who goes out by it has not left. */
  readonly inside: ReadonlySet<number>;
  readonly nameOf: (interfaceIndex: number) => string;
  /** The interface by which the node would hand on an answer to what came in there from this source; undefined for none, or out again. */
  readonly answersTo: (family: Family, source: Buffer, cameFrom: number) => number | undefined;
}

/** Names what became of a network's packets: a function of what its sockets knew and what the node's interfaces saw. */
export function classify(tried: TriedNetwork, network: ProbedNetwork, ground: Ground): NetworkProbe {
  const look = (one: Tried): Sighting | undefined => ('port' in one ? ground.sightings?.of(one.port, tried.family, network.isNode ? NONE : network.strangers.length > 0 || network.hostInterfaces.size === 0 ? undefined : new Set(network.hostInterfaces.keys())) : undefined);
  const seen = { v1: look(tried.v1), token: look(tried.token) };
  const here: Here = { family: tried.family, network, ground };
  const v1 = exchangeOf(tried.v1, seen.v1, 'metadata', here);
  const token = exchangeOf(tried.token, seen.token, 'token', here);
  const v2 = token.class === 'open' && tried.v2 ? withToken(token, tried.v2) : token;
  const seenOnes = Object.values(seen).filter((one) => one !== undefined);
  const cameFrom = [...new Set(seenOnes.flatMap((one) => one.cameFrom))].map(ground.nameOf);
  const others = [...network.hostInterfaces.values()].filter((name) => !cameFrom.includes(name));
  const hops = seenOnes.map(hopsOf).find((one) => one !== undefined);
  const tokenTtl = seen.token && ttlOfAnswer(seen.token, ground);
  return {
    pods: network.pods,
    networkNamespace: tried.networkNamespace,
    family: tried.family,
    interfaces: cameFrom.length > 0 ? cameFrom : [...network.strangers, ...network.hostInterfaces.values()],
    otherWays: others,
    unruled: [...network.strangers, ...network.bridged],
    kind: network.kind,
    class: worstClass(v1.class, v2.class),
    v1,
    v2,
    reached: (v1.connected && hasLeft(seen.v1, network, ground)) || (v2.connected && hasLeft(seen.token, network, ground)),
    ...(hops === undefined ? {} : { hops }),
    ...(tokenTtl === undefined ? {} : { tokenTtl }),
  };
}

const NONE: ReadonlySet<number> = new Set();

/** The one that matters more comes first. */
const CLASSES: readonly ProbeClass[] = ['open', 'proxied', 'throttled', 'forbidden', 'hop-limit', 'v1-off', 'inconclusive', 'no-route', 'rejected', 'dropped', 'not-asked'];
export const worstClass = (...classes: readonly ProbeClass[]): ProbeClass => CLASSES.find((one) => classes.includes(one)) ?? 'inconclusive';

interface Here {
  readonly family: Family;
  readonly network: ProbedNetwork;
  readonly ground: Ground;
}

function exchangeOf(tried: Tried, seen: Sighting | undefined, asked: 'metadata' | 'token', here: Here): Exchange {
  const { network, ground } = here;
  switch (tried.is) {
    case 'not-entered':
      return { class: 'inconclusive', connected: false, because: tried.because };
    case 'no-route':
      return { class: 'no-route', connected: false, because: `nothing was sent: no address or no route (${tried.code})` };
    case 'withheld':
      return elsewhere(undefined, seen, network, ground) ?? { class: 'not-asked', connected: true, because: 'a token was had' };
    case 'refused':
      return unanswered(tried.code, seen, here);
    case 'silent':
      return tried.during === 'connect' ? unanswered(undefined, seen, here) : (elsewhere(undefined, seen, network, ground) ?? silent(seen, ground));
    case 'broken':
      return elsewhere(undefined, seen, network, ground) ?? { class: 'inconclusive', connected: true, because: tried.because };
    case 'answered':
      return elsewhere(tried.status, seen, network, ground) ?? answered(tried.status, tried.body, asked);
  }
}

/** No connection. `code` where something said so, undefined for silence. */
function unanswered(code: string | undefined, seen: Sighting | undefined, { family, network, ground }: Here): Exchange {
  const what = code === undefined ? 'no answer' : `refused (${code})`;
  const inconclusive = (because: string): Exchange => ({ class: 'inconclusive', connected: false, because });
  if (!ground.sightings) return inconclusive(`${what}, and whether it was this node was not seen: ${ground.unseen ?? 'nobody looked'}`);
  // Even of what was seen the rest of the way may have been among them.
  if (ground.sightings.lost > 0) return inconclusive(`${what}, and the node could not keep count of its packets (${ground.sightings.lost} lost)`);
  if (!seen) return inconclusive(network.strangers.length > 0 || network.isNode ? `${what}, and no packet was seen on the node` : `${what}, but no packet came out of the pod: a firewall or a route of its own`);
  // Whether it is its SYN or the other's answer that a pod's own firewall drops: that is no doing of the node.
  const handed = code === undefined && !network.isNode ? seen.answers.filter((answer) => answer.outgoing && ground.inside.has(answer.interfaceIndex)) : [];
  if (handed.length > 0) return inconclusive(`the answer was handed to the pod by ${names(handed.map((answer) => answer.interfaceIndex), ground)}, which did not take it: a firewall of its own`);
  // By a card of its own: what comes for it meets no rule of the node either.
  if (network.strangers.length > 0 && !seen.cameFrom.some((index) => ground.inside.has(index))) return inconclusive(`${what}, and what goes by an interface of its own is not for this node to drop`);
  // A pod that may change its own network can send what dies of itself, from the ports of a probe alone.
  const astray = network.isNode ? undefined : doomed(seen, family, ground);
  if (astray !== undefined) return inconclusive(`${what}, but what came out of the pod no node passes on, or back: ${astray}`);
  const left = leftBy(seen, ground);
  if (left.length > 0) {
    const back = seen.answers.filter((answer) => !answer.outgoing && !ground.inside.has(answer.interfaceIndex));
    if (code === undefined && back.length > 0) return { class: 'dropped', connected: false, because: `it left the node by ${names(left, ground)}, and the answer came back to ${names([back[0]!.interfaceIndex], ground)} and no further` };
    return inconclusive(code === undefined ? `it left the node by ${names(left, ground)}, and nothing came back` : `it left the node by ${names(left, ground)}, and was refused out there (${code})`);
  }
  if (network.isNode) return inconclusive(`${what}, and no packet left the node`);
  const from = names(seen.cameFrom, ground);
  return code === undefined ? { class: 'dropped', connected: false, because: `it came out of the pod by ${from} and went no further` } : { class: 'rejected', connected: false, because: `it came out of the pod by ${from}, and the node refused it (${code})` };
}

/** Why a packet would have died on a node without rules as well; undefined where it would not have. */
function doomed({ flaw, source, cameFrom }: Sighting, family: Family, { answersTo, inside }: Ground): string | undefined {
  if (flaw !== undefined) return flaw;
  // The last is the bridge, where there is one.
  const back = answersTo(family, source, cameFrom.at(-1)!);
  return back === undefined || (inside.has(back) && !cameFrom.includes(back)) ? 'its source is no address of the pod' : undefined;
}

/** Whether the one who answers is another than IMDS, and where it is. */
function elsewhere(status: number | undefined, seen: Sighting | undefined, network: ProbedNetwork, ground: Ground): Exchange | undefined {
  if (!ground.sightings) return undefined;
  const said = status === undefined ? '' : `, with ${status}`;
  if (!seen) {
    // What a card of the pod's own sends, nobody on the node sees.
    if (network.strangers.length > 0 || ground.sightings.lost > 0) return undefined;
    return { class: 'proxied', connected: false, by: network.isNode ? 'node' : 'pod', because: `answered ${network.isNode ? 'on the node: nothing left it' : 'inside the pod: nothing came out of it'}${said}`, ...(status === undefined ? {} : { status }) };
  }
  if (leftBy(seen, ground).length > 0 || ground.sightings.lost > 0) return undefined;
  return { class: 'proxied', connected: false, by: 'node', because: `answered by somebody on the node: it came in by ${names([...seen.cameFrom, ...seen.leftBy], ground)} and did not leave${said}`, ...(status === undefined ? {} : { status }) };
}

/** Connected, the request is sent, and nothing comes. */
function silent(seen: Sighting | undefined, ground: Ground): Exchange {
  const arrived = seen && dataOf(seen).filter((answer) => !answer.outgoing && !ground.inside.has(answer.interfaceIndex));
  if (!seen || !arrived || arrived.length === 0) return { class: 'inconclusive', connected: true, because: 'the connection stands, and no answer came to the node' };
  const ttl = Math.min(...arrived.map((answer) => answer.ttl));
  const delivered = dataOf(seen).filter((answer) => answer.outgoing && ground.inside.has(answer.interfaceIndex));
  const hops = hopsOf(seen) ?? 1;
  if (delivered.length === 0 && ttl <= 1) return { class: 'hop-limit', connected: true, because: `the answer came to the node with TTL ${ttl}, and the pod is ${hopsText(hops)} away` };
  // A network inside the pod's (docker in docker): the last hop is one that the node does not see.
  if (delivered.length > 0 && Math.min(...delivered.map((answer) => answer.ttl)) < hops) return { class: 'hop-limit', connected: true, because: `the answer came to the node with TTL ${ttl}, and the pod is ${hopsText(hops)} away: it ends in the pod's own network` };
  return { class: 'inconclusive', connected: true, because: delivered.length === 0 ? `the answer came to the node with TTL ${ttl}, and no further` : 'the answer was handed to the pod, and did not arrive' };
}

function answered(status: number, body: string, asked: 'metadata' | 'token'): Exchange {
  const exchange = (kind: ProbeClass, because: string): Exchange => ({ class: kind, connected: true, because, status });
  switch (status) {
    case 200:
      if (asked === 'metadata') return exchange('open', 'metadata without a token');
      return body === '' ? exchange('inconclusive', 'answered with 200, and no token') : exchange('open', 'a token');
    case 401:
      return asked === 'metadata' ? exchange('v1-off', 'IMDS wants a token') : exchange('inconclusive', 'a token was refused with 401');
    case 403:
      return exchange('forbidden', 'IMDS answers 403: it is switched off, or forbids it');
    case 429:
    case 503:
      return exchange('throttled', `IMDS answers ${status}: too many requests`);
    default:
      return exchange('inconclusive', `answered with ${status}`);
  }
}

/** Whoever has a token has what there is to have; what became of the GET with it is told beside. */
function withToken(token: Exchange, { is, ...rest }: Tried): Exchange {
  return 'status' in rest ? { ...token, status: rest.status, because: rest.status === 200 ? 'a token, and metadata with it' : `a token; with it ${rest.status}` } : { ...token, because: `a token; with it no answer (${is})` };
}

/** What a pod sends by a card of its own, nobody on the node need have seen. */
const hasLeft = (seen: Sighting | undefined, network: ProbedNetwork, ground: Ground): boolean => (seen ? leftBy(seen, ground).length > 0 : network.hasCard);
const dataOf = ({ answers }: Sighting): Sighting['answers'] => answers.filter(({ payloadBytes }) => payloadBytes > 0);
const leftBy = ({ leftBy: by }: Sighting, { inside }: Ground): number[] => by.filter((index) => !inside.has(index));
const hopsText = (hops: number): string => `${hops} ${hops === 1 ? 'hop' : 'hops'}`;
/** Routers on its way out, of which the node is one; in front of it is what the pod routes itself (docker in docker). */
const hopsOf = ({ ttlIn, ttlOut }: Sighting): number | undefined => (ttlIn !== undefined && ttlOut !== undefined ? (FIRST_TTLS.find((ttl) => ttl >= ttlIn) ?? ttlIn) - ttlOut : undefined);
/** What systems begin with; Linux with the first. */
const FIRST_TTLS = [64, 128, 255];
const names = (indexes: readonly number[], { nameOf }: Ground): string => [...new Set(indexes)].map(nameOf).join(', ');

/** What the hop limit was when the answer came in from outside. */
function ttlOfAnswer(seen: Sighting, { inside }: Ground): number | undefined {
  const ttls = dataOf(seen).filter((answer) => !answer.outgoing && !inside.has(answer.interfaceIndex)).map(({ ttl }) => ttl);
  return ttls.length > 0 ? Math.min(...ttls) : undefined;
}
