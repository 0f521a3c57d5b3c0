import type { Observation } from '../core/probe/joined-report.ts';
import type { ProbeReport } from '../core/probe/report.ts';
import { REST_MS, nextProbeAt } from '../core/probe/rhythm.ts';
import type { Clock, Timer } from './needs.ts';

export interface ProbesOptions {
  readonly clock: Clock;
  readonly everyMs: () => number;
  readonly isOn: () => boolean;
  readonly probe: (options: { readonly all: boolean; readonly turn: number }) => Promise<ProbeReport>;
  /** Whether some of each kind are not enough. */
  readonly wantsEvery: (observed: Observation) => boolean;
  readonly done: () => void;
}

/** Packets that are sent from networks of pods: now and then, and after what changed. */
export class Probes {
  private readonly options: ProbesOptions;
  private last: Observation | undefined;
  private startedMs: number | undefined;
  private changedMs: number | undefined;
  private inARow = 0;
  private turn = 0;
  private timer: Timer | undefined;
  private running = false;
  private stopped = false;
  readonly answers = new Map<string, number>();

  constructor(options: ProbesOptions) {
    this.options = options;
  }

  /** Begins, and begins anew with other settings. */
  schedule(): void {
    this.timer?.cancel();
    if (this.stopped || this.running || !this.options.isOn()) return;
    const { clock, everyMs } = this.options;
    const { startedMs, changedMs, inARow } = this;
    const now = clock.now();
    this.timer = clock.after(Math.max(0, nextProbeAt({ startedMs, changedMs, inARow }, now, everyMs(), clock.chance()) - now), () => void this.run());
  }

  /** Something changed that packets may meet: what they did before tells nothing any more. */
  changed(): void {
    this.changedMs ??= this.options.clock.now();
    this.schedule();
  }

  /** The same while a look is still to come: packets that are under way meet the old or the new, and nobody knows which. */
  overtaken(): void {
    if (this.running) this.changedMs ??= this.options.clock.now();
  }

  /** What packets did since the last change. */
  observed(): Observation {
    if (!this.options.isOn()) return { state: 'not-tried', because: 'switched off, or left to the instance that watches' };
    if (!this.last) return { state: 'not-tried', because: 'none were sent yet' };
    return this.changedMs === undefined ? this.last : { state: 'not-tried', because: 'something changed since the last were sent' };
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private async run(): Promise<void> {
    const { clock, done, wantsEvery } = this.options;
    const now = clock.now();
    this.inARow = this.changedMs === undefined || this.startedMs === undefined || now - this.startedMs > REST_MS ? 0 : this.inARow + 1;
    this.startedMs = now;
    this.changedMs = undefined;
    this.running = true;
    this.turn += 1;
    let observed = await this.send(false);
    if (this.changedMs === undefined && wantsEvery(observed)) observed = await this.send(true);
    this.running = false;
    if (this.stopped) return;
    this.last = observed;
    const answer = observed.state === 'tried' ? observed.answer : 'failed';
    this.answers.set(answer, (this.answers.get(answer) ?? 0) + 1);
    done();
    this.schedule();
  }

  private async send(all: boolean): Promise<Observation> {
    try {
      return { state: 'tried', ...(await this.options.probe({ all, turn: this.turn })) };
    } catch (error) {
      return { state: 'not-tried', because: error instanceof Error ? error.message : String(error) };
    }
  }
}
