import { setTimeout as wait } from 'node:timers/promises';
import type { Row } from '../table.ts';
import { clearRules } from './clear.ts';
import { Daemon } from './daemon.ts';
import { DocumentedRule } from './documented-rule.ts';
import { mibText, rssAnonMiB } from './process-cost.ts';

/** A day of somebody who undoes us every nine seconds, of kubelet and of Prometheus, in less than a minute. */
export interface Day {
  readonly overwrites: number;
  /** Of /metrics and of /healthz, each. */
  readonly requests: number;
  readonly restMs: number;
}

const GIVE_UP_MS = 10_000;
/** Ends of buffers and of heaps: what is more is growth. */
const MOST_GROWTH_MIB = 4;
/** Sooner, V8 has not cleared up yet: what it holds says nothing. */
const SETTLED_AFTER_MS = 30_000;

/** What the daemon holds after a tenth of a day, after all of it, and after a rest. Without a guard table, so that it never waits for a rival to tire. */
export async function growthRows(launcher: string, { overwrites, requests, restMs }: Day): Promise<Row[]> {
  clearRules();
  const daemon = new Daemon(launcher, { IMDS_GUARD_GUARD: 'none' });
  const rule = await DocumentedRule.watch();
  try {
    await daemon.blocked();
    const before = rssAnonMiB(daemon.pid);
    const day = async (share: number): Promise<number> => {
      for (let at = 0; at < overwrites * share; at++) {
        const back = rule.back(GIVE_UP_MS);
        rule.delete();
        await back;
      }
      for (let at = 0; at < requests * share; at++) await askBoth(daemon);
      return rssAnonMiB(daemon.pid);
    };
    const startMs = performance.now();
    const tenth = await day(0.1);
    const whole = await day(0.9);
    const tookMs = performance.now() - startMs;
    await wait(restMs);
    const rested = rssAnonMiB(daemon.pid);
    const { counts } = await daemon.status();
    const looks = Object.values(counts.checks).reduce((sum, one) => sum + one);
    return [
      {
        what: `${overwrites.toLocaleString('en')} overwrites, ${(2 * requests).toLocaleString('en')} requests in ${Math.round(tookMs / 1000)} s, ${looks} looks`,
        baseline: `${mibText(tenth)} after a tenth`,
        measured: `${mibText(before)} → ${mibText(whole)}, after ${Math.round(restMs / 1000)} s ${mibText(rested)}`,
        ratio: `${rested < tenth ? '' : '+ '}${mibText(rested - tenth)}`,
        ...(restMs < SETTLED_AFTER_MS ? { goal: '', is: '' } : { goal: `+ ${MOST_GROWTH_MIB} MiB`, is: rested - tenth <= MOST_GROWTH_MIB ? 'ok' : 'over' }),
      },
    ];
  } finally {
    rule.end();
    await daemon.stop();
  }
}

/** Faster than in a real day: of those for metrics it answers fifty a second, and sends the others away. */
async function askBoth(daemon: Daemon): Promise<void> {
  const metrics = await daemon.get('/metrics').catch((error: NodeJS.ErrnoException) => error);
  const health = await daemon.get('/healthz');
  const isAnswered = 'body' in metrics ? metrics.code === 200 : metrics.code === 'ECONNRESET';
  if (!isAnswered || health.code !== 200) throw new Error(`/metrics: ${metrics.code}, /healthz: ${health.code}`);
}
