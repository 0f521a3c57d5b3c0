import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { LEADS_NOWHERE } from '../core/probe/pod-network-links.ts';
import { type Link, type Links, parseLinks } from './links.ts';
import type { Print } from './observe-node.ts';

/**
 * Pods with an interface that is no veth of this node (macvlan, ipvlan, a whole network card moved in): their packets
 * meet no rule of the node at all (measured: a macvlan pod gets 200 through every layer).
 *
 * Namespaces are found by their processes and under /run/netns. Where the interfaces of all of them are just the other ends
 * of our veths, one for one (by their index), none needs a closer look; otherwise each costs a process. A thousand small
 * reads of /proc take 3 ms one after another, and ten times that as promises.
 */
export async function bypassesOfPods(print: Print, links: Links): Promise<{ bypasses: readonly string[]; assumed: readonly string[] }> {
  const found = namespacesInSight();
  const peers = peersOf(links.all);
  // In a container without the host's processes and /run/netns.
  if (found.length === 0 && peers.size > 0) return { bypasses: [], assumed: [NOT_IN_SIGHT] };
  const strange = found.filter((namespace) => !allAreOurVeths(namespace, peers));
  // A veth whose other end was not met leaves room for another interface to pass for it.
  const somePeerUnmet = [...peers.values()].some((left) => left > 0);
  const bypasses: string[] = [];
  const assumed: string[] = [];
  for (const namespace of somePeerUnmet ? found : strange) {
    const strangers = await strangersIn(print, namespace);
    if (strangers) bypasses.push(...strangers);
    else assumed.push(`the pod in ${namespace.name} has no interface that is not a veth of this node: its namespace could not be looked into (nsenter, ip)`);
  }
  return { bypasses, assumed };
}

const NOT_IN_SIGHT = 'no pod has an interface that is not a veth of this node: their namespaces are not in sight (hostPID, /run/netns)';

function namespacesInSight(): Namespace[] {
  const own = inodeOf('/proc/self/ns/net');
  const found = new Map<string, Namespace>();
  // Processes first: a namespace that has one can be looked at without starting another.
  for (const namespace of [...namespacesOfProcesses(own), ...namedNamespaces()]) {
    const known = found.get(namespace.inode);
    if (namespace.inode !== own) found.set(namespace.inode, known ? { ...known, name: namespace.name } : namespace);
  }
  return [...found.values()];
}

interface Namespace {
  readonly inode: string;
  readonly path: string;
  readonly name: string;
  readonly pid: string | undefined;
}

/** How many veths of ours have a peer with this index in another namespace. */
function peersOf(links: readonly Link[]): Map<number, number> {
  const peers = new Map<number, number>();
  for (const link of links) {
    if (link.linkinfo?.info_kind === 'veth' && link.link_netnsid !== undefined && link.link_index !== undefined) {
      peers.set(link.link_index, (peers.get(link.link_index) ?? 0) + 1);
    }
  }
  return peers;
}

/** /proc/PID/net/dev_mcast lists every interface that is up, with its index, and needs no process to be started. */
function allAreOurVeths(namespace: Namespace, peers: Map<number, number>): boolean {
  if (namespace.pid === undefined) return false;
  const text = attempt(() => readFileSync(`/proc/${namespace.pid}/net/dev_mcast`, 'utf8'));
  if (text === undefined) return false;
  const indexes = new Set(text.split('\n').flatMap((line) => /^(\d+)\s/.exec(line)?.[1] ?? []).map(Number));
  for (const index of indexes) {
    const left = peers.get(index) ?? 0;
    if (left === 0) return false;
    peers.set(index, left - 1);
  }
  return true;
}

/** Undefined when the namespace could not be looked into. */
async function strangersIn(print: Print, namespace: Namespace): Promise<string[] | undefined> {
  const text = await print('nsenter', [`--net=${namespace.path}`, 'ip', '-j', '-d', 'link', 'show']);
  return (text === undefined ? undefined : parseLinks(text))
    ?.filter((link) => link.link_type !== 'loopback' && link.linkinfo?.info_kind !== 'veth' && !LEADS_NOWHERE.has(link.linkinfo?.info_kind ?? ''))
    .map((link) => `${link.ifname} in the namespace of ${namespace.name} is ${describe(link)}, no veth of this node`);
}

const describe = (link: Link): string => (link.linkinfo?.info_kind ? `a ${link.linkinfo.info_kind} interface` : 'a network card of its own');

const NAMED = ['/run/netns', '/var/run/netns'];

function namedNamespaces(): Namespace[] {
  const out: Namespace[] = [];
  for (const directory of NAMED) {
    for (const name of attempt(() => readdirSync(directory)) ?? []) {
      const path = `${directory}/${name}`;
      const status = attempt(() => statSync(path));
      if (status) out.push({ inode: `net:[${status.ino}]`, path, name, pid: undefined });
    }
  }
  return out;
}

/**
 * Only where we are in the namespace that the machine started in. Anywhere else (a node made of namespaces, for tests)
 * the processes around us are not of this node.
 */
function namespacesOfProcesses(own: string): Namespace[] {
  if (own !== inodeOf('/proc/1/ns/net')) return [];
  const out: Namespace[] = [];
  for (const pid of attempt(() => readdirSync('/proc')) ?? []) {
    if (!/^\d+$/.test(pid)) continue;
    const inode = inodeOf(`/proc/${pid}/ns/net`);
    if (inode !== '') out.push({ inode, path: `/proc/${pid}/ns/net`, name: `process ${pid}`, pid });
  }
  return out;
}

const inodeOf = (path: string): string => attempt(() => readlinkSync(path)) ?? '';

/** A process may be gone by the time it is looked at. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
