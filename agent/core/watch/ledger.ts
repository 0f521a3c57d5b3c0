import type { Answer } from '../reasons.ts';
import type { Counts, Culprit, Histogram, Overwrite } from '../watch-status.ts';

const MOST_OVERWRITES = 100;
const MOST_CULPRITS = 20;
/** Seconds. From a put-back over netlink (a thousandth) to a program that was missing for a minute. */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;

export interface Loss {
  readonly lost: readonly string[];
  readonly culprit: Culprit;
  readonly couldHavePassed: Overwrite['couldHavePassed'];
  /** RFC 3339 */
  readonly at: string;
  /** Milliseconds that never jump. */
  readonly atMs: number;
}

/** A loss that was entered, until it is known to be mended. */
export interface Entry {
  readonly loss: Loss;
  restoredAfterMs: number | undefined;
}

/** Everything that is counted or kept for the operator. Bounded: a day of ten thousand overwrites leaves it no larger. */
export class Ledger {
  private readonly entries: Entry[] = [];
  private readonly culprits = new Map<string, number>();
  private readonly repairs = new Array<number>(BOUNDS.length + 1).fill(0);
  private repairsSumSeconds = 0;
  private readonly checks: Record<Answer | 'failed', number> = { blocked: 0, open: 0, unknown: 0, failed: 0 };
  private readonly errors = new Map<string, number>();

  lost(loss: Loss): Entry {
    const entry: Entry = { loss, restoredAfterMs: undefined };
    this.entries.push(entry);
    if (this.entries.length > MOST_OVERWRITES) this.entries.shift();
    const name = loss.culprit.name ?? 'unknown';
    const counted = this.culprits.has(name) || this.culprits.size < MOST_CULPRITS ? name : 'other';
    this.culprits.set(counted, (this.culprits.get(counted) ?? 0) + 1);
    return entry;
  }

  restored(entry: Entry, nowMs: number): void {
    if (entry.restoredAfterMs !== undefined) return;
    entry.restoredAfterMs = Math.max(0, nowMs - entry.loss.atMs);
    const seconds = entry.restoredAfterMs / 1000;
    this.repairsSumSeconds += seconds;
    const bucket = BOUNDS.findIndex((bound) => seconds <= bound);
    this.repairs[bucket < 0 ? BOUNDS.length : bucket]! += 1;
  }

  /** A look proved that everything is there: whatever was lost before is not any more. */
  allRestored(nowMs: number): void {
    for (const entry of this.entries) this.restored(entry, nowMs);
  }

  get unrestored(): readonly Entry[] {
    return this.entries.filter(({ restoredAfterMs }) => restoredAfterMs === undefined);
  }

  checked(result: Answer | 'failed'): void {
    this.checks[result] += 1;
  }

  failed(kind: string): void {
    this.errors.set(kind, (this.errors.get(kind) ?? 0) + 1);
  }

  overwrites(): Overwrite[] {
    return this.entries.map(({ loss, restoredAfterMs }) => ({
      at: loss.at, lost: loss.lost, culprit: loss.culprit, couldHavePassed: loss.couldHavePassed,
      ...(restoredAfterMs === undefined ? {} : { restoredAfterMs: Math.round(restoredAfterMs * 1000) / 1000 }),
    }));
  }

  counts(rules: Counts['rules']): Omit<Counts, 'probes'> {
    return { checks: { ...this.checks }, overwritesByCulprit: Object.fromEntries(this.culprits), repairs: this.histogram(), errors: Object.fromEntries(this.errors), rules };
  }

  private histogram(): Histogram {
    let sum = 0;
    return { bounds: BOUNDS, cumulative: this.repairs.map((count) => (sum += count)), sumSeconds: this.repairsSumSeconds };
  }
}
