import type { PodIdentity } from '../probe/report.ts';
import { LEFT_OVER, type PodNetwork, type PodNetworks } from '../probe/pod-network.ts';
import type { ClientCounts, InterfaceCount } from './counts.ts';
import type { PodNames } from './identity.ts';
import { ANY_CLIENT, addOnOf } from './known-add-ons.ts';
import { type Cgroups, type NodeClient, type NodeProcess, nodeClients, podName } from './node-clients.ts';
import { type Conclusion, conclude } from './safe-to-block.ts';
import { type ClientVersion, versionOf } from './version.ts';

/** Who uses IMDS on this node: documented in agent/commands/clients.md, stable. Times are RFC 3339. */
export interface ClientsReport {
  /** `absent`: nothing is counted, and `conclusion` says why. */
  readonly mode: 'enforce' | 'observe' | 'absent';
  readonly conclusion: Conclusion;
  readonly clients: readonly Client[];
  readonly nodeClients: readonly NodeClient[];
  /** Pods whose packets meet no rule of the node: neither counted nor blocked. */
  readonly uncounted: readonly { readonly pods: readonly PodIdentity[]; readonly network: string; readonly interfaces: readonly string[] }[];
  /** What limits all of this, in sentences. */
  readonly remarks: readonly string[];
}

/** A pod that asked; several pods where they share a network, for then no packet tells whose it is. */
export interface Client extends ClientVersion {
  /** Empty where nothing tells. */
  readonly pods: readonly PodIdentity[];
  /** Who made the pod (a Deployment, a DaemonSet): only the API server knows. */
  readonly owner?: string;
  /** Whether a pod has these interfaces now: else it is gone, or its network is out of sight. */
  readonly present: boolean;
  readonly interfaces: readonly string[];
  /** The addresses that it asked from most; a pod can invent addresses. */
  readonly sources: readonly string[];
  readonly moreSources: number;
  readonly attempts: number;
  readonly puts: number;
  readonly gets: number;
  readonly firstSeen?: string;
  readonly lastSeen?: string;
  readonly advice?: Advice;
}
export interface Advice {
  /** Undefined where the name says nothing. */
  readonly what?: string;
  readonly breaks?: string;
  readonly fix: string;
}

export interface ClientsSeen {
  readonly counts: ClientCounts;
  readonly networks: PodNetworks;
  readonly names: PodNames;
  readonly cgroups: Cgroups;
  /** Processes in the node's own network that are connected to IMDS now. */
  readonly connected: readonly NodeProcess[];
  /** How long a PUT is remembered. */
  readonly putsKeptMs: number;
  /** RFC 3339, of so long ago. */
  readonly at: (msAgo: number) => string;
}

export function clientsReport(seen: ClientsSeen): ClientsReport {
  const { counts, networks, names, cgroups, connected, at } = seen;
  const counted = counts.state === 'counted' ? counts : NOTHING;
  const clients = groups(counted, networks.networks, names).map((group) => clientOf(group, counted, seen));
  const node = nodeClients(counted.processes, cgroups, connected, names, at);
  return {
    mode: counts.state === 'counted' ? counts.mode : 'absent',
    conclusion: conclude(counts, clients, longest(counted.sinceMsAgo, counted.interfaces)),
    clients: clients.sort(byName),
    nodeClients: node,
    uncounted: networks.networks.filter(({ strangers }) => strangers.length > 0).map(({ pods, path, strangers }) => ({ pods, network: path, interfaces: strangers.map(({ name, kind }) => `${name} is a ${kind}`) })),
    remarks: [...remarksOf(counts), ...skippedRemark(networks), ...(cgroups.outOfSight === undefined || counted.processes.length === 0 ? [] : [`which processes of the node were counted cannot be told: ${cgroups.outOfSight}`])],
  };
}

/** What a report says, apart from when: two reports of nothing new have the same. */
export const changesOf = (report: ClientsReport): string => JSON.stringify(report, (name, value: unknown) => (name === 'firstSeen' || name === 'lastSeen' || name === 'conclusion' ? undefined : value)) + report.conclusion.answer;

type Counted = Extract<ClientCounts, { readonly state: 'counted' }>;
const NOTHING: Counted = { state: 'counted', mode: 'observe', seesPayload: false, interfaces: [], sources: [], puts: [], gets: [], probes: [], processes: [], full: [] };

/** Interfaces of one pod, or of pods that share a network. */
interface Group {
  readonly pods: readonly PodIdentity[];
  readonly present: boolean;
  readonly interfaces: readonly string[];
}

/** An interface belongs to the network that has it; where none does its name may still tell the pod, and if not, it is listed as it is. */
function groups(counted: Counted, networks: readonly PodNetwork[], names: PodNames): Group[] {
  const byInterface = new Map(networks.flatMap((network) => network.hostInterfaces.map((name) => [name, network] as const)));
  const found = new Map<string, Group>();
  // All of them: who is in one set may have been too late for another that was full.
  for (const name of new Set([counted.interfaces, counted.puts, counted.gets, counted.sources].flat().map((count) => count.interface))) {
    const network = byInterface.get(name);
    const byName = names.ofInterface(name);
    const pods = network && network.pods.length > 0 ? network.pods : byName ? [byName] : [];
    const key = network?.inode ?? (byName ? podName(byName) : name);
    found.set(key, { pods, present: network !== undefined, interfaces: [...(found.get(key)?.interfaces ?? []), name].sort() });
  }
  return [...found.values()];
}

function clientOf({ pods, present, interfaces }: Group, counted: Counted, { at, putsKeptMs }: ClientsSeen): Client {
  const of = <Count extends { readonly interface: string }>(counts: readonly Count[]): Count[] => counts.filter((count) => interfaces.includes(count.interface));
  const [begun, puts, gets] = [of(counted.interfaces), of(counted.puts), of(counted.gets)];
  const sources = of(counted.sources).sort((a, b) => b.packets - a.packets || (a.source < b.source ? -1 : 1));
  const firstMsAgo = most(begun.map((count) => count.firstMsAgo));
  const watchedMs = most([firstMsAgo, counted.sinceMsAgo]);
  const lastMsAgo = least([...begun, ...puts, ...gets, ...sources].map((count) => count.lastMsAgo));
  const lastGetMsAgo = least(gets.map((count) => count.lastMsAgo));
  const asked = {
    // The set of addresses may be full, and that of interfaces never is.
    attempts: Math.max(sum(begun), sum(sources)),
    puts: sum(puts),
    gets: sum(gets),
    ...(watchedMs === undefined ? {} : { watchedMs }),
    ...(lastGetMsAgo === undefined ? {} : { lastGetMsAgo }),
  };
  const { mode, seesPayload } = counted;
  return {
    pods,
    present,
    interfaces,
    sources: sources.slice(0, MOST_SOURCES).map(({ source }) => source),
    moreSources: Math.max(0, sources.length - MOST_SOURCES),
    attempts: asked.attempts,
    puts: asked.puts,
    gets: asked.gets,
    ...versionOf(asked, mode, seesPayload, putsKeptMs),
    ...(firstMsAgo === undefined ? {} : { firstSeen: at(firstMsAgo) }),
    ...(lastMsAgo === undefined ? {} : { lastSeen: at(lastMsAgo) }),
    ...(pods.length === 0 ? {} : { advice: adviceFor(pods) }),
  };
}
const MOST_SOURCES = 3;

function adviceFor(pods: readonly PodIdentity[]): Advice {
  const known = pods.flatMap(({ name }) => (name === undefined ? undefined : addOnOf(name)) ?? [])[0];
  return known ? { what: known.what, breaks: known.breaks, fix: known.fix } : { fix: ANY_CLIENT };
}

function remarksOf(counts: ClientCounts): string[] {
  if (counts.state === 'absent') return [];
  const { mode, seesPayload, full, probes, sources } = counts;
  const remarks: string[] = [];
  if (mode === 'enforce') remarks.push('attempts only: what is refused never comes to a request, and a refused connection is begun several times');
  else if (!seesPayload) remarks.push('attempts only: this kernel cannot look into payloads, so nobody can be called v1 or v2');
  if (full.length > 0) remarks.push(`full, so somebody may be missing there: ${full.join(', ')}${mostSources(sources)}`);
  if (probes.length > 0) remarks.push(`${sum(probes)} connections from the ports of our own probes are not counted, by ${probes.map((count) => count.interface).sort().join(', ')}`);
  return remarks;
}

function skippedRemark({ skipped }: PodNetworks): string[] {
  const closed = skipped.filter(({ because }) => because !== LEFT_OVER);
  return closed.length === 0 ? [] : [`${closed.length} network namespaces could not be looked into, so whose they are is told by interface alone: ${closed[0]!.path}: ${closed[0]!.because}`];
}

/** A pod that invents addresses fills the set of addresses: it is named, for nobody else has thousands. */
function mostSources(sources: Counted['sources']): string {
  const numbers = new Map<string, number>();
  for (const source of sources) numbers.set(source.interface, (numbers.get(source.interface) ?? 0) + 1);
  const [most] = [...numbers].sort(([a, one], [b, other]) => other - one || (a < b ? -1 : 1));
  return most ? `; ${most[0]} asked from ${most[1]} addresses` : '';
}

/** Those that are named first. */
const byName = (a: Client, b: Client): number => (keyOf(a) < keyOf(b) ? -1 : 1);
const keyOf = ({ pods: [first], interfaces }: Client): string => `${first === undefined ? 2 : first.name === undefined ? 1 : 0} ${first === undefined ? '' : podName(first)} ${interfaces.join(' ')}`;

const sum = (counts: readonly { readonly packets: number }[]): number => counts.reduce((total, { packets }) => total + packets, 0);
const known = (values: readonly (number | undefined)[]): number[] => values.filter((value) => value !== undefined);
const most = (values: readonly (number | undefined)[]): number | undefined => (known(values).length === 0 ? undefined : Math.max(...known(values)));
const least = (values: readonly (number | undefined)[]): number | undefined => (known(values).length === 0 ? undefined : Math.min(...known(values)));

/** Whoever was seen long ago was counted then. */
const longest = (sinceMsAgo: number | undefined, interfaces: readonly InterfaceCount[]): number | undefined => most([sinceMsAgo, ...interfaces.map(({ firstMsAgo }) => firstMsAgo)]);
