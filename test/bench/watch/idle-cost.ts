import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { kube } from '../shapes.ts';
import type { Row } from '../table.ts';
import { runFor } from '../timing.ts';
import { clearRules } from './clear.ts';
import { Daemon } from './daemon.ts';
import { KUBE_JUMPS, RULES_A_SERVICE, kubeSync, servicesFrom } from './kube-sync.ts';
import { costOf, mibText, rssAnonMiB } from './process-cost.ts';

export interface IdleSituation {
  readonly what: string;
  /** In filter, and as many in nat. */
  readonly rules: number;
  /** Whether there are tables of iptables-legacy, which have to be polled. They stay as long as the namespace: so this comes last. */
  readonly legacy: boolean;
}

const MOST_CPU_PERCENT = 0.1;
const MOST_OVER_BARE_MIB = 12;
/** After its first look V8 still clears up for some seconds. */
const SETTLING_MS = 10_000;

export interface BareNode {
  readonly rssAnonMiB: number;
}

/** What any idle process of this Node costs. */
export async function measureBareNode(node: string): Promise<BareNode> {
  const child = spawn(node, ['-e', 'console.log("up"); setInterval(() => {}, 1 << 30)'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout!, 'data');
  const bare = { rssAnonMiB: rssAnonMiB(child.pid!) };
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
  return bare;
}

/** What the daemon costs while nothing happens: next to nothing, and no process. */
export async function idleRows(launcher: string, { what, rules, legacy }: IdleSituation, bare: BareNode, forMs: number): Promise<Row[]> {
  clearRules();
  runFor('iptables-nft-restore', [], kube(rules));
  runFor('iptables-nft-restore', ['--noflush'], KUBE_JUMPS);
  runFor('iptables-nft-restore', ['--noflush'], kubeSync(servicesFrom(0, Math.round(rules / RULES_A_SERVICE))));
  if (legacy) for (const program of ['iptables-legacy', 'ip6tables-legacy']) for (const table of ['filter', 'nat', 'mangle']) runFor(program, ['-t', table, '-A', 'OUTPUT', '-j', 'ACCEPT']);
  // The first one writes, which has to be looked at. The next finds all in place, looks once, and has nothing left to do.
  const first = new Daemon(launcher);
  await first.blocked().finally(() => first.stop());
  const daemon = new Daemon(launcher);
  try {
    await daemon.blocked();
    await wait(SETTLING_MS);
    const before = costOf(daemon.pid);
    await wait(forMs);
    const after = costOf(daemon.pid);
    const { counts, legacy: polled } = await daemon.status();
    const seconds = (after.atMs - before.atMs) / 1000;
    const cpuPercent = (after.cpuMs - before.cpuMs) / seconds / 10;
    const started = after.childrenFaults !== before.childrenFaults;
    const anon = rssAnonMiB(daemon.pid);
    const over = anon - bare.rssAnonMiB;
    const title = `${what}${polled.pollMs === undefined ? '' : `, ${polled.tables.length} tables every ${polled.pollMs} ms`}`;
    return [
      {
        what: `${title}: CPU in ${Math.round(seconds)} s`, baseline: '', ratio: `${cpuPercent.toFixed(3)} %`, goal: `≤ ${MOST_CPU_PERCENT} %`,
        measured: `${(after.cpuMs - before.cpuMs).toFixed(1)} ms, ${((after.switches - before.switches) / seconds).toFixed(1)} switches/s`,
        is: cpuPercent <= MOST_CPU_PERCENT ? 'ok' : 'over',
      },
      {
        what: '  processes started', baseline: '', ratio: '', goal: 'none',
        measured: started ? `yes (${Object.values(counts.checks).reduce((sum, one) => sum + one)} looks since the start)` : 'none',
        is: started ? 'over' : 'ok',
      },
      {
        what: '  RssAnon', baseline: mibText(bare.rssAnonMiB), measured: mibText(anon), ratio: `+ ${mibText(over)}`, goal: `+ ${MOST_OVER_BARE_MIB} MiB`,
        is: over <= MOST_OVER_BARE_MIB ? 'ok' : 'over',
      },
    ];
  } finally {
    await daemon.stop();
  }
}
