import type { Clock } from './needs.ts';

/** The machine's clocks: intervals by the one that nobody sets, and what people read by the one that somebody may. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wall: (ms) => new Date(Date.now() - (performance.now() - ms)).toISOString(),
  chance: () => Math.random(),
  after: (ms, then) => {
    // Longer than 24 days, setTimeout fires at once.
    const timer = setTimeout(then, Math.min(ms, 2 ** 31 - 1));
    return { cancel: () => clearTimeout(timer) };
  },
};
