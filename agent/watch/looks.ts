import { type Cadence, type Urgency, dirtied, nextLookAt } from '../core/watch/cadence.ts';
import type { Look } from '../core/watch/look.ts';
import type { Clock, Timer } from './needs.ts';

export interface LooksOptions {
  readonly clock: Clock;
  readonly resyncMs: () => number;
  readonly look: (signal: AbortSignal) => Promise<Look>;
  /** A change was told. */
  readonly told: () => void;
  /**
   * @param sinceMs when the first change was told that led to the look
   * @param changed whether one did; otherwise it was time for it
   * @returns whether all is as it should be; if not, the next look comes soon although nothing changes
   */
  readonly done: (look: Look, sinceMs: number, changed: boolean) => boolean;
}

/** One look at a time, and when the next is due. */
export class Looks {
  private readonly options: LooksOptions;
  private dirty: Cadence['dirty'];
  private lastEndMs: number;
  private lastTookMs = 0;
  private failures = 0;
  private timer: Timer | undefined;
  private running: { readonly abort: AbortController; readonly startedMs: number } | undefined;
  /** The first change that no look which began after it has ended well for. */
  private unseenSinceMs: number | undefined;
  private stopped = false;

  constructor(options: LooksOptions) {
    this.options = options;
    this.lastEndMs = options.clock.now();
  }

  want(urgency: Urgency): void {
    this.options.told();
    this.dirty = dirtied(this.dirty, urgency, this.options.clock.now());
    this.unseenSinceMs ??= this.options.clock.now();
    this.schedule();
  }

  /** For how long there has been a change that no look has seen: one that is under way has seen nothing yet. */
  staleMs(): number {
    return this.unseenSinceMs === undefined ? 0 : this.options.clock.now() - this.unseenSinceMs;
  }

  /** Whether a change has come since the running look (or the last) began. */
  get isDirty(): boolean {
    return this.dirty !== undefined;
  }

  get endedMs(): number {
    return this.lastEndMs;
  }

  /** How long the running look has taken so far. */
  runningMs(): number {
    return this.running ? this.options.clock.now() - this.running.startedMs : 0;
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.running?.abort.abort(new Error('stopping'));
  }

  private schedule(): void {
    if (this.stopped || this.running) return;
    this.timer?.cancel();
    const { clock, resyncMs } = this.options;
    const { dirty, lastEndMs, lastTookMs, failures } = this;
    const at = nextLookAt({ dirty, lastEndMs, lastTookMs, failures, resyncMs: resyncMs() }, clock.chance());
    this.timer = clock.after(Math.max(0, at - clock.now()), () => void this.run());
  }

  private async run(): Promise<void> {
    const startedMs = this.options.clock.now();
    const changed = this.dirty !== undefined;
    const sinceMs = this.dirty?.sinceMs ?? startedMs;
    this.running = { abort: new AbortController(), startedMs };
    this.dirty = undefined;
    const look = await this.options.look(this.running.abort.signal);
    this.running = undefined;
    this.lastEndMs = this.options.clock.now();
    this.lastTookMs = this.lastEndMs - startedMs;
    if (this.stopped) return;
    if (look.ok) this.unseenSinceMs = (this.dirty as Cadence['dirty'])?.sinceMs;
    this.failures = this.options.done(look, sinceMs, changed) ? 0 : this.failures + 1;
    this.schedule();
  }
}
