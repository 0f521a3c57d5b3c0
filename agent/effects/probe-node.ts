import { choose, kindOf } from '../core/probe/choose.ts';
import { type ProbedNetwork, classify } from '../core/probe/classify.ts';
import type { PodNetwork } from '../core/probe/pod-network.ts';
import type { ProbeReport } from '../core/probe/report.ts';
import { summary } from '../core/probe/summary.ts';
import type { Family } from 'node-iptables';
import { NetlinkRequests } from 'node-iptables/kernel';
import { NETLINK_ROUTE, askRoute, readRoute } from 'node-iptables/netlink';
import { IMDS_BYTES } from '../core/addresses.ts';
import { bridgesLeadingOut } from '../core/probe/pod-network-links.ts';
import { patternOf, uplinkNames } from './links.ts';
import { type FoundNetworks, findPodNetworks } from './pod-networks.ts';
import { type ToTry, probeNetworks } from './probe-networks.ts';

export interface ProbeOptions {
  /** The User-Agent. */
  readonly agent: string;
  /** Every pod's network, not some of each kind. */
  readonly all: boolean;
  /** For who asks again and again: see `probeNetworks`. */
  readonly sparing: boolean;
  /** Others are tried the next time. */
  readonly turn: number;
}

/**
 * Tries IMDS from the networks of this node's pods, and from the node itself. Where there is no pod, nothing is sent.
 *
 * @throws KernelError where namespaces cannot be opened at all
 */
export async function probeNode({ agent, all, sparing, turn }: ProbeOptions): Promise<ProbeReport> {
  const startedMs = performance.now();
  const found = await findPodNetworks();
  const chosen = choose(found.networks, patternOf, turn, all);
  const skipped = found.skipped.map(({ path, because }) => ({ networkNamespace: path, because }));
  if (chosen.length === 0) return summary({ control: [], networks: [], found: 0, uncovered: uncoveredBy(chosen, found), skipped, tookMs: performance.now() - startedMs });
  const families = ['ipv4', 'ipv6'] as const;
  const networks: ToTry[] = [{ path: undefined, families, isToldByPort: true }, ...chosen.map(({ path, hostInterfaces, strangers }) => ({ path, families, isToldByPort: strangers.length > 0 || hostInterfaces.length === 0 }))];
  const { tried, sightings, unseen } = await probeNetworks(networks, agent, sparing);
  const nameOf = nameOfLink(found);
  const byPath = new Map(chosen.map((network) => [network.path, network]));
  const routes = await NetlinkRequests.open(NETLINK_ROUTE);
  const ground = { sightings, unseen, inside: insideOf(found), nameOf, answersTo: answersBy(routes) };
  const classified = tried.map((one) => classify(one, known(byPath.get(one.networkNamespace), found), ground));
  routes.close();
  return summary({
    control: classified.filter(({ kind }) => kind === 'node'),
    networks: classified.filter(({ kind }) => kind !== 'node'),
    found: found.networks.length,
    uncovered: uncoveredBy(chosen, found),
    skipped,
    tookMs: performance.now() - startedMs,
  });
}

/** The node's own rules of routing are asked both ways, as the packet's and as its answer's. */
function answersBy(routes: NetlinkRequests): (family: Family, source: Buffer, cameFrom: number) => number | undefined {
  const ask = (question: Parameters<typeof askRoute>[0]): number | undefined => routes.ask(askRoute(question)).messages.map(readRoute)[0];
  return (family, source, cameFrom) => {
    const imds = Buffer.from(IMDS_BYTES[family]);
    // Where routing itself keeps pods out, an answer would come by the way that the node's own goes.
    const out = ask({ family, destination: imds, source, from: cameFrom }) ?? ask({ family, destination: imds });
    const back = out === undefined ? undefined : ask({ family, destination: source, source: imds, from: out });
    return back === out ? undefined : back;
  };
}

const NODE: ProbedNetwork = { pods: [], hostInterfaces: new Map(), kind: 'node', strangers: [], hasCard: false, bridged: [], isNode: true };

function known(network: PodNetwork | undefined, { links }: FoundNetworks): ProbedNetwork {
  if (!network) return NODE;
  const ends = links.filter(({ name }) => network.hostInterfaces.includes(name));
  const outward = bridgesLeadingOut({ links, uplinks: uplinkNames('/proc/net') });
  return { pods: network.pods, hostInterfaces: new Map(ends.map(({ index, name }) => [index, name])), kind: kindOf(network, patternOf), strangers: network.strangers.map(({ name, kind }) => `${name} (${kind})`), hasCard: network.strangers.some(({ isCard }) => isCard), bridged: ends.filter(({ master }) => outward.has(master)).map(({ name }) => `${name} (bridged)`), isNode: false };
}

/** A kind of which one pod was tried is covered: rules know interfaces, not pods. */
function uncoveredBy(chosen: readonly PodNetwork[], { leading, networks }: FoundNetworks): string[] {
  const covered = new Set(chosen.flatMap(({ hostInterfaces }) => hostInterfaces.map(patternOf)));
  // Who says of every pod that it is kept out must know of each.
  const inSight = new Set(networks.flatMap(({ hostInterfaces }) => hostInterfaces));
  return [...new Set(leading.map(patternOf))].filter((pattern) => !covered.has(pattern)).concat(leading.filter((name) => covered.has(patternOf(name)) && !inSight.has(name)));
}

/** Links that do not lead out of the node: to itself, and to pods. */
function insideOf({ links, networks }: FoundNetworks): ReadonlySet<number> {
  const ofPods = new Set(networks.flatMap(({ hostInterfaces }) => hostInterfaces));
  return new Set(links.filter(({ loopback, name, kind }) => loopback || ofPods.has(name) || kind === 'dummy').map(({ index }) => index));
}

const nameOfLink = ({ links }: FoundNetworks): ((index: number) => string) => {
  const names = new Map(links.map(({ index, name }) => [index, name]));
  return (index) => names.get(index) ?? `interface ${index}`;
};
