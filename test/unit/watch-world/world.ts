import type { Report } from '../../../agent/core/report.ts';
import type { Step } from '../../../agent/core/plan.ts';
import { DEFAULT_SETTINGS, type Settings } from '../../../agent/core/settings.ts';
import type { Look } from '../../../agent/core/watch/look.ts';
import type { GuardStatus } from '../../../agent/core/watch-status.ts';
import type { WatchNeeds } from '../../../agent/watch/needs.ts';
import { Watcher } from '../../../agent/watch/watcher.ts';

export const blocked: Report = { answer: 'blocked', reason: 'EveryPacketDropped', targets: [], collateral: [], assumed: [] };
const passing = { name: 'eni+ ipv4', family: 'ipv4', interface: 'eni+', from: 'configuration', reason: 'PacketPasses' } as Report['targets'][number];
export const open: Report = { ...blocked, answer: 'open', reason: 'PacketPasses', targets: [passing] };
export const look = (report: Report, problems: readonly string[] = [], steps: readonly Step[] = [], dryRun = false): Look => ({ ok: true, report, steps, dryRun, problems, left: dryRun ? steps : [], backend: 'nft', unread: [] });

/** A world of its own for a watcher: time moves when it is told to, and a look ends when it is told what it saw. */
export function makeWorld(settings: Settings = DEFAULT_SETTINGS, probe?: WatchNeeds['probe']) {
  let now = 1000;
  /** What people's clocks show beside: somebody may set them. */
  let wallOffset = 0;
  let timers: { at: number; then: () => void }[] = [];
  const looks: { readonly write: boolean; readonly settings: Settings; readonly signal: AbortSignal; end: (look: Look) => Promise<void> }[] = [];
  const logged: { level: string; message: string; fields: Readonly<Record<string, unknown>> | undefined }[] = [];
  const leader = { fails: false };
  const guard = { state: 'owned-persistent' as GuardStatus['state'], standing: true, kept: 0 };
  const needs: WatchNeeds = {
    clock: {
      now: () => now,
      wall: (ms) => new Date(ms + wallOffset).toISOString(),
      chance: () => 0.5,
      after: (ms, then) => {
        const timer = { at: now + ms, then };
        timers.push(timer);
        return { cancel: () => void (timers = timers.filter((one) => one !== timer)) };
      },
    },
    log: (level, message, fields) => void logged.push({ level, message, fields }),
    look: (write, lookSettings, signal) =>
      new Promise((resolve) => looks.push({
        write, settings: lookSettings, signal,
        end: async (seen) => {
          resolve(seen);
          await new Promise(setImmediate);
        },
      })),
    guard: {
      keep: () => {
        guard.kept += 1;
        guard.standing = true;
        return { state: guard.state };
      },
      stands: () => guard.standing,
      read: () => ({ state: guard.state }),
      get state() {
        return guard.state;
      },
    },
    rules: undefined,
    probe,
    leaderFails: () => void (leader.fails = true),
    culprit: (name, pid) => ({ name, pid }),
  };
  const watcher = new Watcher(needs, settings, new Set(), {
    version: '0', pid: 1, startedAt: '', settings: undefined, role: 'watching', leader: undefined, report: undefined, observed: () => ({ state: 'not-tried', because: '' }), probes: () => ({}), failure: undefined, checkedAtMs: undefined,
    provedBlocked: false, guard: { state: 'absent' }, events: { state: 'subscribed', received: 0, relevant: 0, lost: 0 }, linksKnown: true, legacy: () => ({ tables: [] }), audit: { state: 'absent' }, kubernetes: () => undefined,
  });
  return {
    watcher, looks, logged, guard, leader,
    setClocks: (offset: number) => void (wallOffset = offset),
    now: () => now,
    /** Lets time pass; whatever is due on the way happens. */
    pass: async (ms: number): Promise<void> => {
      const until = now + ms;
      for (;;) {
        const next = timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        timers = timers.filter((one) => one !== next);
        now = Math.max(now, next.at);
        next.then();
        await new Promise(setImmediate);
      }
      now = until;
    },
  };
}
