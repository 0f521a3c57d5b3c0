import type { Firewall } from 'node-iptables';
import type { Values } from '../cli/parse.ts';
import type { FileHints } from '../core/from-files.ts';
import type { Observed } from '../core/observed.ts';
import type { ProbeReport } from '../core/probe/report.ts';
import type { NodeObject } from '../core/kubernetes/node.ts';
import type { Settings } from '../core/settings.ts';
import type { ClientsObserver } from '../effects/observe-clients.ts';
import type { Build } from '../effects/this-build.ts';
import type { Daemon } from '../watch/run.ts';

/** What a command is given: its settings, and the few ways it has to the world. */
export interface Context {
  readonly settings: Settings;
  readonly values: Values;
  readonly output: 'text' | 'json' | 'npd' | 'prometheus';
  readonly print: (text: string) => void;
  readonly firewall: () => Promise<Firewall>;
  /** Looks at this node. */
  readonly observe: () => Promise<Observed>;
  /** Sends packets to IMDS from networks of pods. What could not be tried is in the answer. */
  readonly probe: (options: { readonly all: boolean }) => Promise<ProbeReport>;
  /** Looks who uses IMDS, as often as it is asked; what could not be looked at is in the answer. */
  readonly observeClients: () => Promise<Pick<ClientsObserver, 'look' | 'close'>>;
  /** Aborts when the program is told to stop, and when nobody reads what it prints any more. */
  readonly untilEnd: () => AbortSignal;
  /** Shows every Node of the cluster that the kubeconfig (or the pod's ServiceAccount) leads to. Rejects with words for the operator. */
  readonly eachNode: (wanted: { readonly context: string | undefined; readonly selector: string | undefined }, visit: (node: NodeObject) => void) => Promise<void>;
  /** The `imds-guard watch` that runs on this node; undefined where there is none, as far as can be told. */
  readonly daemonRuns: () => Promise<{ readonly pid: number | undefined } | undefined>;
  /** What is running: version, commit, bill of materials. */
  readonly build: () => Promise<Build>;
  /** What a command that goes on running has besides. */
  readonly daemon: Omit<Daemon, 'log'>;
  /** Reads saved rulesets in place of this node's. */
  readonly observeFiles: (names: readonly string[], hints: FileHints) => Promise<Observed>;
}

export type Command = (context: Context) => Promise<number>;

/** What start.cjs knows of the files that it started. */
export interface Program {
  /** What starts this program: its file, and arguments before the command. */
  readonly self: readonly [file: string, ...args: readonly string[]];
  readonly billOfMaterials: () => string;
}

export const EXIT = { blocked: 0, open: 1, unknown: 2, usage: 64, crash: 70 } as const;

export const json = (value: unknown): string =>
  `${JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? Number(one) : one), 2)}\n`;
