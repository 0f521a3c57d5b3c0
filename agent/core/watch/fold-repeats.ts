/** An event to be told now. */
export interface Told<Event> {
  readonly event: Event;
  /** How many more like it came since the one before was told; the event is then the last of them. 0 for the first. */
  readonly repeated: number;
}

interface Window<Event> {
  readonly since: number;
  readonly repeated: number;
  readonly last: Event;
}

/**
 * Tells an event once, and then how often it came again: two agents that fight over a rule for a night must not fill a
 * disk. What is the same as something told less than `windowMs` ago is counted, and told as one at the end of that
 * window, which begins the next.
 *
 * At most `atMost` windows are open; where one more would be, the oldest ends early. Times are milliseconds of any clock
 * that does not go back.
 */
export class FoldRepeats<Event> {
  /** The oldest first: a window is put in when it begins, and taken out when it ends. */
  readonly #windows = new Map<string, Window<Event>>();
  readonly #windowMs: number;
  readonly #atMost: number;

  constructor(windowMs: number, atMost: number) {
    this.#windowMs = windowMs;
    this.#atMost = atMost;
  }

  /** What is to be told when this happens, in order. */
  happened(identity: string, event: Event, now: number): Told<Event>[] {
    const ended = this.ended(now);
    const window = this.#windows.get(identity);
    if (window) {
      this.#windows.set(identity, { ...window, repeated: window.repeated + 1, last: event });
      return ended;
    }
    if (this.#windows.size >= this.#atMost) ended.push(...this.#end(this.#windows.keys().next().value!));
    this.#windows.set(identity, { since: now, repeated: 0, last: event });
    return [...ended, { event, repeated: 0 }];
  }

  /** What is to be told of windows that are over. */
  ended(now: number): Told<Event>[] {
    const told: Told<Event>[] = [];
    for (const [identity, { since }] of [...this.#windows]) {
      if (since + this.#windowMs > now) break;
      for (const one of this.#end(identity)) {
        told.push(one);
        this.#windows.set(identity, { since: now, repeated: 0, last: one.event });
      }
    }
    return told;
  }

  /** What is to be told before the end of all. */
  close(): Told<Event>[] {
    return [...this.#windows.keys()].flatMap((identity) => this.#end(identity));
  }

  /** When the next window is over; undefined while none is open. */
  get nextEnd(): number | undefined {
    const oldest = this.#windows.values().next().value;
    return oldest && oldest.since + this.#windowMs;
  }

  #end(identity: string): Told<Event>[] {
    const { last, repeated } = this.#windows.get(identity)!;
    this.#windows.delete(identity);
    return repeated > 0 ? [{ event: last, repeated }] : [];
  }
}
