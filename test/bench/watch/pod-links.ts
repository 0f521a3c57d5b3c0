import { setTimeout as wait } from 'node:timers/promises';
import type { WatchStatus } from '../../../agent/core/watch-status.ts';
import type { Row } from '../table.ts';
import { runFor } from '../timing.ts';
import { clearRules } from './clear.ts';
import { Daemon } from './daemon.ts';
import { costOf } from './process-cost.ts';

const GROUP = 77;
const AT_ONCE = 50;
const TAKING_MS = 10_000;
/** Looks that such a burst ends with, and the daemon's own work, have their time too. */
const REST_MS = 3000;

/** Pods that come and go by the hundred: their interfaces are told one by one, and lead to few looks. */
export async function podLinksRow(launcher: string, count: number): Promise<Row> {
  clearRules();
  runFor('ip', ['netns', 'add', 'pods']);
  const daemon = new Daemon(launcher);
  try {
    await daemon.blocked();
    const looksBefore = await looksOf(daemon);
    const before = costOf(daemon.pid);
    const answers = new Set<string>();
    for (let made = 0; made < count; made += AT_ONCE) {
      const dueMs = before.atMs + ((made + AT_ONCE) / count) * TAKING_MS;
      runFor('ip', ['-batch', '-'], Array.from({ length: AT_ONCE }, (_, at) => podLink(made + at)).join(''));
      // Not older than a second: to wait for a new one would keep the links longer than pods are.
      answers.add((JSON.parse((await daemon.get('/status')).body) as WatchStatus).answer);
      // All at once, as one by one each takes the kernel 20 ms.
      runFor('ip', ['link', 'del', 'group', String(GROUP)]);
      await wait(Math.max(0, dueMs - performance.now()));
    }
    const tookMs = performance.now() - before.atMs;
    await wait(REST_MS);
    const after = costOf(daemon.pid);
    const status = await daemon.status();
    answers.add(status.answer);
    const isKept = [...answers].every((answer) => answer === 'blocked') && status.counts.rules.every(({ present }) => present);
    return {
      what: `${count.toLocaleString('en')} pod links came and went in ${(tookMs / 1000).toFixed(1)} s`,
      baseline: '',
      measured: `CPU ${Math.round(after.cpuMs - before.cpuMs)} ms, its looks ${Math.round(after.childrenCpuMs - before.childrenCpuMs)} ms, ${(await looksOf(daemon)) - looksBefore} looks`,
      ratio: `${(((after.cpuMs - before.cpuMs) / (after.atMs - before.atMs)) * 100).toFixed(1)} %`,
      goal: 'blocked throughout',
      is: isKept ? 'ok' : 'over',
    };
  } finally {
    await daemon.stop();
    runFor('ip', ['netns', 'del', 'pods']);
  }
}

const podLink = (number: number): string => {
  const name = `eni${number.toString(16).padStart(8, '0')}`;
  return `link add ${name} group ${GROUP} type veth peer name eth${number} netns pods\nlink set ${name} up\n`;
};

const looksOf = async (daemon: Daemon): Promise<number> => Object.values((await daemon.status()).counts.checks).reduce((sum, one) => sum + one);
