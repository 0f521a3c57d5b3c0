import type { Family } from 'node-iptables';

/** What the guard table has counted of packets to IMDS, as of now. Times are how long ago, in milliseconds. */
export type ClientCounts =
  | {
      readonly state: 'counted';
      /** Whether the table drops, or only counts. */
      readonly mode: 'enforce' | 'observe';
      /** `false` where this kernel cannot look into payloads: then there are attempts alone. */
      readonly seesPayload: boolean;
      /** For how long it has counted; undefined where nothing tells. Who asked before is not in it. */
      readonly sinceMsAgo?: number;
      /** Connections begun (SYN), by interface: bounded by the number of interfaces, so nobody can fill it. */
      readonly interfaces: readonly InterfaceCount[];
      /** The same by interface and source address; a pod that invents addresses can fill it. */
      readonly sources: readonly SourceCount[];
      /** Requests for a token, and GETs with or without one, by interface: both families together. */
      readonly puts: readonly InterfaceCount[];
      readonly gets: readonly InterfaceCount[];
      /** Packets from the ports of our own probes. */
      readonly probes: readonly InterfaceCount[];
      /** Connections begun by processes in the node's own network, by cgroup (v2). */
      readonly processes: readonly ProcessCount[];
      /** Names of sets that hold all they can. */
      readonly full: readonly string[];
    }
  | { readonly state: 'absent'; readonly because: string };

export interface InterfaceCount {
  readonly interface: string;
  readonly packets: number;
  /** Undefined where only the last is kept, or the first. */
  readonly firstMsAgo?: number;
  readonly lastMsAgo?: number;
}
export interface SourceCount {
  readonly family: Family;
  readonly interface: string;
  readonly source: string;
  readonly packets: number;
  readonly lastMsAgo: number;
}
export interface ProcessCount {
  /** The number of the cgroup: the inode of its folder. */
  readonly cgroup: string;
  readonly packets: number;
  readonly lastMsAgo: number;
}
