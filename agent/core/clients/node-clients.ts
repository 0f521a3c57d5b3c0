import type { PodIdentity } from '../probe/report.ts';
import type { ProcessCount } from './counts.ts';
import type { PodNames } from './identity.ts';

/** Somebody in the node's own network who uses IMDS: a service, or a hostNetwork pod. No rule of ours stops it. */
export interface NodeClient {
  /** `unit`: of systemd. `gone`: the cgroup is no more. `unknown`: which it is cannot be told from here. */
  readonly is: 'unit' | 'pod' | 'cgroup' | 'gone' | 'unknown';
  /** `kubelet.service`, `kube-system/aws-node-x7k2p`, the path of a cgroup, or its number. */
  readonly name: string;
  readonly pod?: PodIdentity;
  readonly cgroup?: string;
  /** Connections begun; undefined for one that is only seen connected. */
  readonly attempts?: number;
  readonly lastSeen?: string;
  /** Who of it has a connection to IMDS right now. */
  readonly processes: readonly Pick<NodeProcess, 'pid' | 'name'>[];
}
export interface NodeProcess {
  readonly pid: number;
  readonly name: string;
  /** The text of /proc/PID/cgroup. */
  readonly cgroup: string;
}

/** Paths of cgroups by their number; what is not there is gone, unless not all of them are in sight. */
export interface Cgroups {
  readonly paths: ReadonlyMap<string, string>;
  readonly outOfSight?: string;
}

export function nodeClients(counted: readonly ProcessCount[], { paths, outOfSight }: Cgroups, connected: readonly NodeProcess[], names: PodNames, at: (msAgo: number) => string): NodeClient[] {
  const clients = new Map<string, NodeClient>();
  for (const { cgroup, packets, lastMsAgo } of counted) {
    const path = paths.get(cgroup);
    const who = path === undefined ? ({ is: outOfSight === undefined ? 'gone' : 'unknown', name: `cgroup ${cgroup}` } as const) : whoIs(path, names);
    const known = clients.get(who.name);
    const attempts = (known?.attempts ?? 0) + packets;
    const lastSeen = latest(known?.lastSeen, at(lastMsAgo));
    clients.set(who.name, { ...who, attempts, lastSeen, processes: [] });
  }
  for (const { pid, name, cgroup } of connected) {
    const who = whoIs(pathOf(cgroup), names);
    const client = clients.get(who.name) ?? { ...who, processes: [] };
    clients.set(who.name, { ...client, processes: [...client.processes, { pid, name }] });
  }
  return [...clients.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

const latest = (one: string | undefined, other: string): string => (one === undefined || one < other ? other : one);

/** `/system.slice/kubelet.service`; a container's own systemd has units too, so the pod is asked for first. */
function whoIs(path: string, names: PodNames): Pick<NodeClient, 'is' | 'name' | 'pod' | 'cgroup'> {
  const pod = names.ofCgroup(path);
  if (pod) return { is: 'pod', name: podName(pod), pod, cgroup: path };
  const unit = path.split('/').find((name) => /.\.(service|scope)$/.test(name));
  return unit === undefined ? { is: 'cgroup', name: path === '/' ? 'no cgroup of its own' : path, cgroup: path } : { is: 'unit', name: unit, cgroup: path };
}

/** `0::/system.slice/kubelet.service`; with cgroup v1 alone, systemd's own hierarchy tells the same. */
const pathOf = (text: string): string => /^0::(\/.*)$/m.exec(text)?.[1]?.replace(/^\/$/, '') || (/^\d+:name=systemd:(\/.*)$/m.exec(text)?.[1] ?? '/');

export const podName = ({ namespace, name, uid }: PodIdentity): string => (name === undefined ? `pod ${uid ?? '?'}` : `${namespace ?? '?'}/${name}`);
