import type { Contention } from '../watch-status.ts';

/** A rival is one that undid the same thing this often within this time. */
const RIVAL_TIMES = 3;
const RIVAL_WITHIN_MS = 5 * 60_000;
/** Quiet for so long, and it is none any more. */
const FORGOTTEN_AFTER_MS = 15 * 60_000;
/** Most rivals kept: a name is whatever a process calls itself. */
const MOST_RIVALS = 64;

/**
 * Put back at once so often, refilled at this rate; and so often in the long run. Somebody who undoes us at full speed is
 * answered a few times a second, then every ten seconds: only while the guard table stands, which makes it no matter.
 */
const BURST = { size: 20, perSecond: 5 } as const;
const LONG_RUN = { size: 600, perSecond: 0.1 } as const;

interface Rival {
  readonly culprit: string;
  readonly what: string;
  times: number;
  readonly sinceMs: number;
  lastMs: number;
  readonly recentMs: number[];
  burst: Bucket;
  longRun: Bucket;
  nextTryAtMs: number | undefined;
  doing: Contention['doing'];
}

interface Bucket {
  left: number;
  atMs: number;
}

/** Who undoes us again and again. Time is an argument, in milliseconds that never jump. */
export class Rivals {
  private readonly rivals = new Map<string, Rival>();

  /**
   * Somebody undid something of ours, which is put back (`backing-off`); or took a position that does not matter, which is
   * left to them.
   */
  undone(culprit: string, what: string, nowMs: number, doing: Contention['doing'] = 'backing-off'): void {
    const key = `${culprit} ${what}`;
    const known = this.rivals.get(key) ?? newRival(culprit, what, nowMs);
    known.doing = doing;
    this.rivals.delete(key);
    this.rivals.set(key, known);
    known.times += 1;
    known.lastMs = nowMs;
    known.recentMs.push(nowMs);
    while (known.recentMs.length > RIVAL_TIMES) known.recentMs.shift();
    if (this.rivals.size > MOST_RIVALS) this.rivals.delete(this.rivals.keys().next().value!);
  }

  /**
   * How long to wait before it is put back.
   *
   * @param guarded whether the guard table stands: without it nothing is ever left lying
   * @param chance 0..1, drawn by the caller: rivals that wait as long as we do never meet us
   */
  delayMs(culprit: string, what: string, nowMs: number, guarded: boolean, chance: number): number {
    const rival = this.rivals.get(`${culprit} ${what}`);
    if (!rival || !guarded) return 0;
    const waitMs = Math.max(take(rival.burst, BURST, nowMs), take(rival.longRun, LONG_RUN, nowMs));
    rival.nextTryAtMs = waitMs > 0 ? nowMs + waitMs : undefined;
    return waitMs === 0 ? 0 : waitMs * (0.75 + chance / 2);
  }

  isRival(culprit: string, what: string): boolean {
    const rival = this.rivals.get(`${culprit} ${what}`);
    return rival !== undefined && isRival(rival);
  }

  /** Those that are rivals now, the worst first. */
  list(nowMs: number, wallClock: (ms: number) => string): Contention[] {
    for (const [key, { lastMs }] of this.rivals) if (nowMs - lastMs > FORGOTTEN_AFTER_MS) this.rivals.delete(key);
    return [...this.rivals.values()]
      .filter((rival) => isRival(rival))
      .sort((a, b) => b.times - a.times)
      .map(({ culprit, what, times, sinceMs, nextTryAtMs, doing }) => ({
        culprit, what, times, since: wallClock(sinceMs), doing, ...(nextTryAtMs !== undefined && nextTryAtMs > nowMs ? { nextTryAt: wallClock(nextTryAtMs) } : {}),
      }));
  }
}

const isRival = ({ recentMs }: Rival): boolean => recentMs.length >= RIVAL_TIMES && recentMs.at(-1)! - recentMs[0]! <= RIVAL_WITHIN_MS;

const newRival = (culprit: string, what: string, nowMs: number): Rival => ({
  culprit, what, times: 0, sinceMs: nowMs, lastMs: nowMs, recentMs: [],
  burst: { left: BURST.size, atMs: nowMs }, longRun: { left: LONG_RUN.size, atMs: nowMs },
  nextTryAtMs: undefined, doing: 'backing-off',
});

/** Takes one; or says how long until there is one. */
function take(bucket: Bucket, { size, perSecond }: { readonly size: number; readonly perSecond: number }, nowMs: number): number {
  bucket.left = Math.min(size, bucket.left + ((nowMs - bucket.atMs) / 1000) * perSecond);
  bucket.atMs = nowMs;
  if (bucket.left < 1) return ((1 - bucket.left) / perSecond) * 1000;
  bucket.left -= 1;
  return 0;
}
