import type { Backend } from 'node-iptables';

/** What an operator may decide. agent/config.md explains each. */
export interface Settings {
  /** Patterns of the host side of pod interfaces, as `-i` takes them. */
  readonly interfaces: readonly string[];
  /** Patterns of branch-ENI interfaces, as `-o` takes them. */
  readonly branchInterfaces: readonly string[];
  /** Whether patterns found on the node are added (the VPC CNI's prefix, the `veth` of IPv4 egress). */
  readonly discover: boolean;
  /** `observe` counts who asks, and blocks nobody. */
  readonly mode: 'enforce' | 'observe';
  readonly layout: 'documented' | 'chain';
  readonly action: 'drop' | 'reject';
  /**
   * Who keeps the table `inet imds-guard`. `auto` is `plain` for apply; `watched`: a daemon does, and apply leaves it alone;
   * `none`: there is none, and one that is there goes.
   */
  readonly guard: 'auto' | 'plain' | 'none' | 'watched';
  readonly backend: 'auto' | Backend;
  readonly lockWaitSeconds: number;
  readonly timeoutSeconds: number;
  /** Of the endpoints of `watch`; 0 for none. */
  readonly port: number;
  /** Where all endpoints are. */
  readonly address: string;
  /** Whether `/metrics` is at `metricsAddress` too. */
  readonly metricsEnabled: boolean;
  readonly metricsAddress: string;
  /** Whether `check` and `watch` send packets to IMDS from networks of pods. */
  readonly probe: boolean;
  /** How often `watch` sends them although nothing changed, about. */
  readonly probeSeconds: number;
  /** How often `watch` looks although nothing told it to. */
  readonly resyncSeconds: number;
  readonly logLevel: LogLevel;
  /** Whether `watch` writes the node's condition: `auto` where it runs in a pod, or is given a kubeconfig. */
  readonly kubernetes: 'auto' | 'none';
  /** Empty for the pod's own ServiceAccount. */
  readonly kubeconfig: string;
  /** The name of this Node in the API; empty where it is not known. */
  readonly nodeName: string;
  /** The key of a taint that is taken away from this Node once it is proved blocked; empty for none. */
  readonly startupTaint: string;
}

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const DEFAULT_SETTINGS: Settings = {
  interfaces: ['eni+'],
  branchInterfaces: ['vlan+'],
  discover: true,
  mode: 'enforce',
  layout: 'documented',
  action: 'drop',
  guard: 'auto',
  backend: 'auto',
  lockWaitSeconds: 5,
  timeoutSeconds: 20,
  port: 16925,
  address: '127.0.0.1',
  metricsEnabled: false,
  metricsAddress: '::',
  probe: true,
  probeSeconds: 900,
  resyncSeconds: 600,
  logLevel: 'info',
  kubernetes: 'auto',
  kubeconfig: '',
  nodeName: '',
  startupTaint: '',
};
