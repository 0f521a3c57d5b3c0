import { setTimeout as wait } from 'node:timers/promises';
import { kube } from '../shapes.ts';
import { type Row, msText } from '../table.ts';
import { runFor } from '../timing.ts';
import { clearRules } from './clear.ts';
import { Daemon } from './daemon.ts';
import { DOCUMENTED, DocumentedRule } from './documented-rule.ts';
import { KUBE_JUMPS } from './kube-sync.ts';
import { type Rewriting, startRewriting } from './rewriting.ts';
import { type Spread, spreadOf } from './spread.ts';

export interface RepairSituation {
  /** In the filter table. */
  readonly rules: number;
  readonly guard: 'auto' | 'none';
  /** Whether another process rewrites a thousand nat rules a second. */
  readonly rewriting: boolean;
}

/** Noticed, decided and written in hardly more time than it takes to start the program that writes it. */
const GOAL = { median: 1.5, p99: 5 } as const;

/** What the daemon allows one rival, while its guard table stands (agent/core/watch/contention.ts): 20, then 5 a second. */
const BURST = 20;
const PACE_MS = { auto: 230, none: 40 } as const;
const GIVE_UP_MS = 30_000;

/**
 * From the moment the kernel has deleted the documented rule to the one in which the kernel tells that it is there again,
 * against the one restore that an operator would run, timed in between.
 */
export async function repairRow(launcher: string, { rules, guard, rewriting }: RepairSituation, samples: number): Promise<Row> {
  clearRules();
  runFor('iptables-nft-restore', [], kube(rules));
  runFor('iptables-nft-restore', ['--noflush'], KUBE_JUMPS);
  runFor('iptables-nft', ['-N', 'BENCH']);
  const daemon = new Daemon(launcher, { IMDS_GUARD_GUARD: guard });
  const rule = await DocumentedRule.watch();
  let other: Rewriting | undefined;
  let rate: number | undefined;
  try {
    await daemon.blocked();
    if (rewriting) other = startRewriting();
    const [repairs, restores]: [number[], number[]] = [[], []];
    for (let at = 0; at < samples; at++) {
      const back = rule.back(GIVE_UP_MS);
      const goneMs = rule.delete();
      repairs.push((await back) - goneMs);
      restores.push(timeRestore());
      await wait(guard === 'auto' && at < BURST - 5 ? PACE_MS.none : PACE_MS[guard]);
    }
    rate = await other?.stop();
    return rowOf({ rules, guard, rewriting }, spreadOf(repairs), spreadOf(restores), rate);
  } finally {
    if (rate === undefined) await other?.stop();
    rule.end();
    await daemon.stop();
  }
}

/** The same rule in the same table, in a chain that nothing jumps to: the daemon does not mind that one. */
function timeRestore(): number {
  const payload = `*filter\n-I BENCH 1 ${DOCUMENTED}\nCOMMIT\n`;
  const startMs = performance.now();
  runFor('iptables-nft-restore', ['--noflush'], payload);
  return performance.now() - startMs;
}

function rowOf({ rules, guard, rewriting }: RepairSituation, repairs: Spread, restores: Spread, rate: number | undefined): Row {
  const [median, p99] = [repairs.median / restores.median, repairs.p99 / restores.median];
  return {
    what: `${rules.toLocaleString('en')} rules, ${guard === 'auto' ? 'guard table' : 'no guard table'}${rewriting ? `, ${Math.round(rate ?? 0)} nat rules/s` : ''} (${repairs.count})`,
    baseline: `${msText(restores.median)} / ${msText(restores.p99)}`,
    measured: `${msText(repairs.median)} / ${msText(repairs.p99)} / ${msText(repairs.worst)}`,
    ratio: `${median.toFixed(2)} / ${p99.toFixed(2)} ×`,
    goal: `≤ ${GOAL.median} / ${GOAL.p99} ×`,
    is: median <= GOAL.median && p99 <= GOAL.p99 ? 'ok' : 'over',
  };
}
