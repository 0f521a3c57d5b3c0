import { join } from '../core/probe/join.ts';
import type { Observation } from '../core/probe/joined-report.ts';
import type { Report } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import type { Ledger } from '../core/watch/ledger.ts';
import type { Role } from '../core/watch/look.ts';
import type { OwnRule } from '../core/watch/outlook.ts';
import type { Contention, EventStatus, GuardStatus, LegacyStatus, WatchStatus } from '../core/watch-status.ts';

/** What the watcher knows, changed as it learns more. */
export interface Known {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  settings: Settings | undefined;
  role: Role;
  leader: WatchStatus['leader'];
  report: Report | undefined;
  /** What packets did that were sent from networks of pods. */
  observed: () => Observation;
  probes: () => Readonly<Record<string, number>>;
  /** Why the last look failed; undefined when it did not. */
  failure: string | undefined;
  checkedAtMs: number | undefined;
  provedBlocked: boolean;
  guard: GuardStatus;
  readonly events: Mutable<Omit<EventStatus, 'resyncSeconds'>>;
  /** Whether the links that were there at the start have been listed: before, each is news. */
  linksKnown: boolean;
  legacy: () => LegacyStatus;
  audit: WatchStatus['audit'];
  kubernetes: () => WatchStatus['kubernetes'];
}
type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

interface Moment {
  readonly now: number;
  readonly wall: (ms: number) => string;
  readonly staleMs: number;
  readonly ledger: Ledger;
  readonly contention: readonly Contention[];
  readonly own: readonly { readonly rule: OwnRule; readonly present: boolean }[];
}

/** A change that could not be looked at for so long makes the last answer one about another ruleset. */
const STALE_MS = 10_000;

export function statusOf(known: Known, { wall, staleMs, ledger, contention, own }: Moment): WatchStatus {
  const rules = own.map(({ rule, present }) => ({ family: rule.family === 'ip' ? 'ipv4' : 'ipv6', table: rule.table, chain: rule.chain, layer: rule.layer, present }));
  const kubernetes = known.kubernetes();
  return {
    version: known.version,
    pid: known.pid,
    startedAt: known.startedAt,
    role: known.role,
    ...(known.leader ? { leader: known.leader } : {}),
    mode: known.settings?.mode ?? 'enforce',
    ...answerOf(known, staleMs),
    observed: known.observed(),
    ...(known.checkedAtMs === undefined ? {} : { checkedAt: wall(known.checkedAtMs) }),
    provedBlocked: known.provedBlocked,
    guard: known.guard,
    events: { ...known.events, resyncSeconds: known.settings?.resyncSeconds ?? 0 },
    legacy: known.legacy(),
    audit: known.audit,
    ...(kubernetes ? { kubernetes } : {}),
    contention,
    overwrites: ledger.overwrites(),
    counts: { ...ledger.counts(rules), probes: known.probes() },
    ...(known.report ? { report: known.report } : {}),
  };
}

/** Never `blocked` on the strength of a look that was not taken, failed, or is about a ruleset that has changed since. */
export function answerOf({ report, failure, observed }: Known, staleMs: number): Pick<WatchStatus, 'answer' | 'reason' | 'message' | 'basis' | 'installed'> {
  if (failure !== undefined) return { answer: 'unknown', reason: 'CouldNotLook', message: failure, basis: [] };
  if (!report) return { answer: 'unknown', reason: 'NotLookedYet', message: 'the first look has not ended yet', basis: [] };
  if (staleMs > STALE_MS) return { answer: 'unknown', reason: 'ChangedSince', message: `a change ${Math.round(staleMs / 1000)} s ago has not been looked at yet`, basis: [] };
  const { answer, reason, message, basis, installed } = join(report, observed());
  return { answer, reason, message, basis, installed };
}
