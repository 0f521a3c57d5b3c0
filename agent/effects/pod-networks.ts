import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { NetlinkRequests, NetworkNamespaces } from 'node-iptables/kernel';
import { type ListedLink, NETLINK_ROUTE, getNamespaceId, listLinks, readListedLink, readNamespaceId } from 'node-iptables/netlink';
import { type Lookup, podNetworkOf } from '../core/probe/pod-network-links.ts';
import { LEFT_OVER, TOO_MANY_LINKS, type PodNetwork, type PodNetworks } from '../core/probe/pod-network.ts';
import type { PodIdentity } from '../core/probe/report.ts';
import { uplinkNames } from './links.ts';
import { podNames } from './pod-names.ts';

export interface FoundNetworks extends PodNetworks {
  /** The node's own links. */
  readonly links: readonly ListedLink[];
  /** Those that lead into other namespaces, as a pod's do. */
  readonly leading: readonly string[];
}

/**
 * The networks of the pods on this node, found without the API, the runtime or a process of ours: by /run/netns and the processes
 * in /proc, each looked into over netlink. A namespace is a pod's when one of its links has its other end, or lies, on a link of this
 * node, or when one of its processes is in a pod's cgroup; not when the node itself has its way out through it.
 */
export async function findPodNetworks(): Promise<FoundNetworks> {
  const namespaces = await NetworkNamespaces.open();
  try {
    const own = readlinkSync('/proc/thread-self/ns/net');
    const { links } = lookAround(NetlinkRequests.openHere(namespaces.libc, NETLINK_ROUTE), namespaces.own);
    const ground: Lookup = { links, uplinks: uplinkNames('/proc/net') };
    const names = podNames();
    const networks: PodNetwork[] = [];
    const skipped: { path: string; because: string }[] = [];
    let busySinceMs = performance.now();
    for (const candidate of candidates(own, skipped)) {
      // A pod may make thousands inside of it: whoever else waits on this thread has a turn.
      if (performance.now() - busySinceMs > MOST_BUSY_MS) {
        await new Promise((later) => setImmediate(later));
        busySinceMs = performance.now();
      }
      const seen = attempt(() => namespaces.inside(candidate.path, (c) => lookAround(NetlinkRequests.openHere(c, NETLINK_ROUTE), namespaces.own, MOST_LINKS)));
      if ('because' in seen) {
        skipped.push({ path: candidate.path, because: seen.because });
        continue;
      }
      const inCgroups = uniquePods(candidate.pids.slice(0, MOST_PROCESSES).flatMap((pid) => names.ofCgroup(readText(`/proc/${pid}/cgroup`)) ?? []));
      const found = podNetworkOf(seen.value, ground, inCgroups.length > 0);
      if (!found) continue;
      const pods = inCgroups.length > 0 ? inCgroups : uniquePods(found.hostInterfaces.flatMap((name) => names.ofInterface(name) ?? []));
      networks.push({ ...found, inode: candidate.inode, path: candidate.path, pods });
    }
    return { networks, skipped, links, leading: links.filter((link) => link.kind === 'veth' && link.peerNamespace !== undefined && link.master === 0 && !ground.uplinks.has(link.name)).map(({ name }) => name) };
  } finally {
    namespaces.close();
  }
}

const MOST_BUSY_MS = 20;
/** A pod may make as many as it likes, and each takes its time and room. A node has two for each pod. */
const MOST_LINKS = 2000;

/** A pod has some containers, each with some processes; all of them tell the same. */
const MOST_PROCESSES = 16;

interface Candidate {
  readonly inode: string;
  readonly path: string;
  readonly pids: readonly string[];
}

function candidates(own: string, skipped: { path: string; because: string }[]): Candidate[] {
  const found = new Map<string, { path: string; pids: string[] }>();
  for (const { inode, path } of namedNamespaces(skipped)) if (inode !== own && !found.has(inode)) found.set(inode, { path, pids: [] });
  for (const { inode, pid } of processNamespaces(own, skipped)) {
    if (inode === own) continue;
    const known = found.get(inode);
    if (known) known.pids.push(pid);
    else found.set(inode, { path: `/proc/${pid}/ns/net`, pids: [pid] });
  }
  return [...found].map(([inode, rest]) => ({ inode, ...rest }));
}

const NAMED = ['/run/netns', '/var/run/netns', '/run/docker/netns'];

/** Runtimes bind-mount a namespace on a file here; a file that nothing is mounted on is what is left of one. */
function namedNamespaces(skipped: { path: string; because: string }[]): { readonly inode: string; readonly path: string }[] {
  const seen = new Set<string>();
  return NAMED.flatMap((directory) => {
    const place = attempt(() => statSync(directory));
    if ('because' in place || seen.has(`${place.value.dev} ${place.value.ino}`)) return [];
    seen.add(`${place.value.dev} ${place.value.ino}`);
    const files = attempt(() => readdirSync(directory));
    if ('because' in files) {
      skipped.push({ path: directory, because: files.because });
      return [];
    }
    return files.value.flatMap((name) => {
      const path = `${directory}/${name}`;
      const status = attempt(() => statSync(path));
      if ('because' in status) {
        skipped.push({ path, because: status.because });
        return [];
      }
      if (status.value.dev !== place.value.dev) return [{ inode: `net:[${status.value.ino}]`, path }];
      skipped.push({ path, because: LEFT_OVER });
      return [];
    });
  });
}

/**
 * Only where we are in the namespace that the machine started in. Anywhere else (a node made of namespaces, for tests)
 * the processes around us are not of this node.
 */
function processNamespaces(own: string, skipped: { path: string; because: string }[]): { readonly inode: string; readonly pid: string }[] {
  const first = attempt(() => readlinkSync('/proc/1/ns/net'));
  // Of a pod that is missed for want of CAP_SYS_PTRACE the host's end of its veth is seen all the same: `uncovered` of the report.
  if ('because' in first || first.value !== own) return [];
  const pids = attempt(() => readdirSync('/proc'));
  if ('because' in pids) return [];
  let closed = 0;
  const found = pids.value.flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    const inode = attempt(() => readlinkSync(`/proc/${pid}/ns/net`));
    if (!('because' in inode)) return [{ inode: inode.value, pid }];
    // One that has ended is none; one of another user is closed to who may not trace it.
    if (CLOSED.test(inode.because)) closed += 1;
    return [];
  });
  if (closed > 0) skipped.push({ path: '/proc', because: `the network namespaces of ${closed} processes are not to be seen without CAP_SYS_PTRACE: of pods, those under /run/netns alone` });
  return found;
}

const CLOSED = /\b(EACCES|EPERM)\b/;

interface Around {
  readonly links: readonly ListedLink[];
  /** What is called the node's namespace from there; undefined where no link leads to it. */
  readonly nodeId: number | undefined;
}

function lookAround(requests: NetlinkRequests, ownDescriptor: number, atMost = Infinity): Around {
  try {
    const [answer] = requests.ask(getNamespaceId(ownDescriptor)).messages;
    return { nodeId: answer && readNamespaceId(answer), links: linksHere(requests, atMost) };
  } finally {
    requests.close();
  }
}

function linksHere(requests: NetlinkRequests, atMost: number): ListedLink[] {
  const links: ListedLink[] = [];
  requests.list(listLinks(), (message) => {
    const link = readListedLink(message);
    if (link) links.push(link);
    if (links.length > atMost) throw new Error(TOO_MANY_LINKS);
  });
  return links;
}

const uniquePods = (pods: readonly PodIdentity[]): PodIdentity[] => [...new Map(pods.map((pod) => [pod.uid ?? `${pod.namespace}/${pod.name}`, pod])).values()];

const readText = (path: string): string => {
  const text = attempt(() => readFileSync(path, 'utf8'));
  return 'because' in text ? '' : text.value;
};

/** Whatever is looked at may be gone the moment after it was listed. */
function attempt<T>(look: () => T): { readonly value: T } | { readonly because: string } {
  try {
    return { value: look() };
  } catch (error) {
    return { because: error instanceof Error ? error.message : String(error) };
  }
}
