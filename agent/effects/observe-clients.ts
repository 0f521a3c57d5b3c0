import { NETLINK_NETFILTER } from 'node-iptables/netlink';
import { KernelError, NetlinkRequests } from 'node-iptables/kernel';
import type { ClientCounts } from '../core/clients/counts.ts';
import type { PodNames } from '../core/clients/identity.ts';
import { type ClientsReport, clientsReport } from '../core/clients/report.ts';
import { COUNT_SETS } from '../core/guard-table.ts';
import type { PodNetworks } from '../core/probe/pod-network.ts';
import type { PodIdentity } from '../core/probe/report.ts';
import { cgroupPaths } from './cgroup-paths.ts';
import { imdsConnections } from './imds-connections.ts';
import { podNames } from './pod-names.ts';
import { findPodNetworks } from './pod-networks.ts';
import { readCounts } from './read-counts.ts';

/** Looks who uses IMDS, as often as it is asked, and remembers whose an interface was when its pod is gone. */
export class ClientsObserver {
  /** Undefined where the kernel has no nf_tables. */
  private readonly requests: NetlinkRequests | undefined;
  private readonly remembered = new Map<string, readonly PodIdentity[]>();

  private constructor(requests: NetlinkRequests | undefined) {
    this.requests = requests;
  }

  static async open(): Promise<ClientsObserver> {
    return new ClientsObserver(await NetlinkRequests.open(NETLINK_NETFILTER).catch(ofKernel(() => undefined)));
  }

  /** @param now the clock that people read, in milliseconds */
  async look(now: number): Promise<ClientsReport> {
    // Before and after: a pod may come, ask and go while this looks, and so may the folder of its logs.
    const early = podNames();
    const counts: ClientCounts = this.requests ? readCounts(this.requests) : { state: 'absent', because: 'the kernel has no nf_tables' };
    const networks: PodNetworks = await findPodNetworks().catch(ofKernel(({ message }) => ({ networks: [], skipped: [{ path: '/proc', because: message }] })));
    const report = clientsReport({
      counts,
      networks,
      names: this.either(early, podNames()),
      cgroups: cgroupPaths(counts.state === 'counted' ? counts.processes.map(({ cgroup }) => cgroup) : []),
      connected: imdsConnections(),
      putsKeptMs: COUNT_SETS.find(({ name }) => name === 'puts')!.timeoutMs,
      at: (msAgo) => `${new Date(now - msAgo).toISOString().slice(0, -5)}Z`,
    });
    for (const { hostInterfaces, pods } of networks.networks) for (const name of hostInterfaces) if (pods.length > 0) this.remembered.set(name, pods);
    return report;
  }

  close(): void {
    this.requests?.close();
  }

  private either(early: PodNames, late: PodNames): PodNames {
    const only = (pods: readonly PodIdentity[] = []): PodIdentity | undefined => (pods.length === 1 ? pods[0] : undefined);
    return {
      all: late.all,
      ofCgroup: (text) => [late.ofCgroup(text), early.ofCgroup(text)].sort((a, b) => Number(b?.name !== undefined) - Number(a?.name !== undefined))[0],
      ofInterface: (name) => late.ofInterface(name) ?? early.ofInterface(name) ?? only(this.remembered.get(name)),
    };
  }
}

/** What the kernel refuses is part of the answer; anything else is a bug. */
const ofKernel =
  <T>(answer: (error: KernelError) => T) =>
  (error: unknown): T => {
    if (error instanceof KernelError) return answer(error);
    throw error;
  };
