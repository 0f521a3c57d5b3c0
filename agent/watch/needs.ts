import type { OwnRule } from '../core/watch/outlook.ts';
import type { ChangedChain, LostRule } from '../core/watch/transaction.ts';
import type { LogLevel, Settings } from '../core/settings.ts';
import type { Look } from '../core/watch/look.ts';
import type { ProbeReport } from '../core/probe/report.ts';
import type { Culprit, GuardStatus } from '../core/watch-status.ts';

/** What the watcher needs of the world. `run.ts` brings the real one. */
export interface WatchNeeds {
  readonly clock: Clock;
  readonly log: (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;
  /** Looks at the node in a process of its own, and when it is to writes what is missing. Never rejects. */
  readonly look: (write: boolean, settings: Settings, signal: AbortSignal) => Promise<Look>;
  /** Sends packets to IMDS from networks of pods; undefined where that is not wanted. Rejects where it cannot be done at all. */
  readonly probe: ((options: { readonly all: boolean; readonly turn: number }) => Promise<ProbeReport>) | undefined;
  /** Somebody else watches, and for ten seconds has let the node lie open. */
  readonly leaderFails: () => void;
  readonly guard: Guard;
  /** Undefined where the kernel does not answer over netlink: then there are looks alone. */
  readonly rules: Rules | undefined;
  /** Asked at once when a process is named: it may not live much longer. */
  readonly culprit: (name: string, pid: number) => Culprit;
}

export interface Clock {
  /** Milliseconds that never jump. */
  now(): number;
  /** For people: RFC 3339, of a moment on the clock above. */
  wall(ms: number): string;
  /** 0..1 */
  chance(): number;
  after(ms: number, then: () => void): Timer;
}
export interface Timer {
  cancel(): void;
}

export interface Guard {
  /** Writes the table, whatever is in its place. */
  keep(settings: Settings): GuardStatus;
  stands(): boolean;
  /** With its counters. */
  read(): GuardStatus;
  readonly state: GuardStatus['state'];
}

export interface Rules {
  /** @returns undefined when they are there again; otherwise why not */
  putBack(lost: readonly LostRule[]): string | undefined;
  /**
   * Where a rule is there more than once, takes those with these handles away, but for one that stays.
   *
   * @returns those of the handles that are still there
   */
  dropDoubles(rule: OwnRule, handles: ReadonlySet<bigint>): ReadonlySet<bigint>;
  signatureOf(chain: ChangedChain): string;
  structure(): string;
  generation(): number | undefined;
}
