/**
 * When to look at the node again. A look costs a process of its own and a handful of programs, so a burst of changes leads to
 * one; and somebody who changes things all the time gets no more than a share of the CPU. Times in milliseconds that never jump.
 */
export interface Cadence {
  /** The first change that was not looked at yet, and how soon it wants to be. */
  readonly dirty: { readonly sinceMs: number; readonly urgency: Urgency } | undefined;
  readonly lastEndMs: number;
  readonly lastTookMs: number;
  /** Looks in a row that failed or left the node unprotected. */
  readonly failures: number;
  readonly resyncMs: number;
}

/** `now`: a rule may have lost its effect. `soon`: something that mostly changes nothing, such as one more pod. */
export type Urgency = 'now' | 'soon';

/** What belongs together comes together: a restore writes one table after another. */
const SETTLE_MS: Readonly<Record<Urgency, number>> = { now: 25, soon: 1000 };
/** Between looks: so many times as long as the last one took. */
const REST: Readonly<Record<Urgency, number>> = { now: 3, soon: 20 };
/** Sooner than a change makes the last answer stale. */
const MOST_REST_MS = 8_000;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 60_000;

/** @param chance 0..1, drawn by the caller: nodes must not be in step */
export function nextLookAt(cadence: Cadence, chance: number): number {
  const { dirty, lastEndMs, lastTookMs, failures, resyncMs } = cadence;
  const jitter = 0.75 + chance / 2;
  const resync = lastEndMs + resyncMs * jitter;
  const retry = failures === 0 ? Infinity : lastEndMs + Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 10)) * jitter;
  if (!dirty) return Math.min(resync, retry);
  const restMs = Math.min(MOST_REST_MS, REST[dirty.urgency] * lastTookMs);
  return Math.min(resync, Math.max(dirty.sinceMs + SETTLE_MS[dirty.urgency], lastEndMs + restMs));
}

export const dirtied = (dirty: Cadence['dirty'], urgency: Urgency, nowMs: number): Cadence['dirty'] =>
  dirty === undefined ? { sinceMs: nowMs, urgency } : dirty.urgency === 'soon' && urgency === 'now' ? { sinceMs: Math.min(dirty.sinceMs, nowMs), urgency } : dirty;
