/** What the API server said to a write, as far as it decides when to try again. */
export type Outcome =
  | { readonly is: 'written' }
  /** `seconds`: how long the server asks to be left alone (Retry-After). */
  | { readonly is: 'refused'; readonly status: number; readonly seconds?: number }
  /** No answer: unreachable, too slow, broken off. */
  | { readonly is: 'unreachable' };

/** The heartbeat: readers take one that is older than ten minutes for none. */
const HEARTBEAT_MS = 300_000;
export const STALE_AFTER_MS = 600_000;
/** A change that comes to all nodes at once must not come to the API server at once. */
const SPREAD_MS = 35_000;
/** A node that has just started is waited for, and comes alone or in a roll-out that has a pace of its own. */
const FIRST_SPREAD_MS = 2000;
const SHORTEST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;
/** What is forbidden stays so until somebody writes a role: that is for people to do, and takes them longer. */
const FORBIDDEN_RETRY_MS = 300_000;

/** @param chance 0..1 */
export const heartbeatAfterMs = (chance: number): number => HEARTBEAT_MS * (1 + chance / 10);
/** @param first whether nothing but "starting" was told since the start */
export const spreadMs = (first: boolean, chance: number): number => chance * (first ? FIRST_SPREAD_MS : SPREAD_MS);

/**
 * @param failures how many in a row, this one among them
 * @param chance 0..1: no two nodes in step
 */
export function retryAfterMs(outcome: Exclude<Outcome, { is: 'written' }>, failures: number, chance: number): number {
  const backoff = Math.min(LONGEST_RETRY_MS, SHORTEST_RETRY_MS * 2 ** (failures - 1)) * (0.5 + chance);
  if (outcome.is === 'unreachable') return backoff;
  if (outcome.seconds !== undefined) return Math.max(outcome.seconds * 1000 * (1 + chance / 2), backoff);
  return outcome.status === 403 ? FORBIDDEN_RETRY_MS * (0.5 + chance) : backoff;
}

/** `Retry-After: 7`, bounded: the other form, a date, no API server sends. */
export const retryAfterSeconds = (header: string | undefined): number | undefined => (header !== undefined && /^\d{1,4}$/.test(header) ? Math.min(Number(header), 600) : undefined);
