/** When packets are sent again. Times on the daemon's clock, in milliseconds. */
export interface Rhythm {
  /** The last time; undefined before the first. */
  readonly startedMs: number | undefined;
  /** The first change since then that packets may meet. */
  readonly changedMs: number | undefined;
  /** So many changes in a row led to packets with no rest between. */
  readonly inARow: number;
}

/** After a change: soon, so that what it led to is known, and not at the same moment on every node. */
const SOON_MS = 2000;
const SHORTEST_GAP_MS = 10_000;
const LONGEST_GAP_MS = 300_000;
/** A rest after which a change is the first again. */
export const REST_MS = 600_000;

/**
 * IMDS has 1024 packets a second to give to an instance, DNS and time included: a rival that changes rules all day
 * must not lead to packets all day. And never in step with other nodes, which all see the same roll-out.
 *
 * @param chance 0..1
 */
export function nextProbeAt({ startedMs, changedMs, inARow }: Rhythm, now: number, everyMs: number, chance: number): number {
  if (startedMs === undefined) return now + chance * SOON_MS;
  const regular = startedMs + everyMs * (0.75 + chance / 2);
  if (changedMs === undefined) return regular;
  const gap = Math.min(LONGEST_GAP_MS, SHORTEST_GAP_MS * 2 ** inARow);
  return Math.min(regular, Math.max(now + chance * SOON_MS, startedMs + gap * (1 + chance / 4)));
}
