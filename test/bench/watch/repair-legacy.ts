import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { LegacyTables } from '../../../agent/node-iptables/src/kernel/legacy-info.ts';
import { type Row, msText } from '../table.ts';
import { runFor } from '../timing.ts';
import { Daemon } from './daemon.ts';
import { DOCUMENTED } from './documented-rule.ts';
import { spreadOf } from './spread.ts';

const LOOK_AGAIN_MS = 2;
const GIVE_UP_MS = 20_000;
/** The last look and the rest after it are over, and where the poll is in its round is anybody's guess. */
const pauseMs = (): number => 2000 + Math.random() * 1000;

/** The kernel tells nobody of tables of iptables-legacy: a poll notices, and a look writes. Leaves such tables in the namespace. */
export async function legacyRepairRow(launcher: string, samples: number): Promise<Row> {
  const daemon = new Daemon(launcher, { IMDS_GUARD_BACKEND: 'legacy' });
  const kernel = await LegacyTables.open();
  try {
    await daemon.blocked();
    runFor('iptables-legacy', ['-N', 'BENCH']);
    const entries = (): number => kernel.info('ipv4', 'filter')?.entries ?? 0;
    const [whole, untilLook, restores]: [number[], number[], number[]] = [[], [], []];
    for (let at = 0; at < samples; at++) {
      restores.push(timeRestore());
      await wait(pauseMs());
      const there = entries();
      runFor('iptables-legacy', ['-D', 'FORWARD', ...DOCUMENTED.split(' ')]);
      const goneMs = performance.now();
      let looking: number | undefined;
      while (entries() < there) {
        if (performance.now() - goneMs > GIVE_UP_MS) throw new Error('the documented rule did not come back');
        if (looking === undefined && hasChildren(daemon.pid)) looking = performance.now() - goneMs;
        await wait(LOOK_AGAIN_MS);
      }
      whole.push(performance.now() - goneMs);
      if (looking !== undefined) untilLook.push(looking);
    }
    const { legacy } = await daemon.status();
    const [all, begun, restore] = [spreadOf(whole), spreadOf(untilLook), spreadOf(restores)];
    return {
      what: `iptables-legacy, polled every ${legacy.pollMs ?? '?'} ms (${all.count})`,
      baseline: `${msText(restore.median)} / ${msText(restore.p99)}`,
      measured: `${msText(all.median)} / ${msText(all.p99)} / ${msText(all.worst)}: the poll ${msText(begun.median)}, the look ${msText(all.median - begun.median)}`,
      ratio: `${(all.median / restore.median).toFixed(0)} ×`, goal: '', is: '',
    };
  } finally {
    kernel.close();
    await daemon.stop();
  }
}

/** A look is a process, and the only one that it starts. */
const hasChildren = (pid: number): boolean => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8') !== '';

function timeRestore(): number {
  const startMs = performance.now();
  runFor('iptables-legacy-restore', ['--noflush'], `*filter\n-I BENCH 1 ${DOCUMENTED}\nCOMMIT\n`);
  return performance.now() - startMs;
}
