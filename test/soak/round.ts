// One adversary against one daemon, with a hammer in every pod.
import type { WatchStatus } from '../../agent/core/watch-status.ts';
import { type Backend, families, iptables, must, programOf } from '../kernel/guard.ts';
import { startDaemon, type Daemon } from '../lab/daemon.ts';
import { makeLab, type Lab } from '../lab/lab.ts';
import { adversaries, type AdversaryName, type OurRule } from './adversaries.ts';
import { arrived, countArrivals } from './arrivals.ts';
import type { Hammered } from './hammer.ts';
import { startHammers, sum, type Hammers, type Sum } from './hammers.ts';
import type { Running } from './running.ts';

export interface RoundOptions {
  readonly adversary: AdversaryName | 'nobody';
  readonly seconds: number;
  /** `none`: the hammers alone, to see that they get what they ask for. */
  readonly daemon: 'none' | 'alone' | 'kept';
  readonly args?: readonly string[];
  readonly backend?: Backend;
  readonly perSecond?: number;
}

export interface Outcome extends Sum {
  readonly pods: Readonly<Record<string, Hammered>>;
  readonly rounds: number;
  readonly trouble: string;
  readonly seconds: number;
  /** Packets of pods that arrived where IMDS is, since the daemon said `blocked`. */
  readonly arrived: number;
  /** After the adversary had stopped, and all was in order again. */
  readonly status: WatchStatus | undefined;
  readonly backAfterMs: number | undefined;
  /** Rules of ours that were there before and are not there now. */
  readonly missing: readonly string[];
  readonly nodeReaches: boolean;
}

export const podsOfRound = { web: 'eni', branch: 'vlan', six: 'v6' } as const;

export async function round(options: RoundOptions): Promise<Outcome> {
  const { adversary, seconds, daemon: kept, args = [], backend = 'nft', perSecond = 1000 } = options;
  const lab = await makeLab({ pods: podsOfRound });
  /** What is still to be ended when something fails in the middle. */
  let hammers: Hammers | undefined;
  let running: Running | undefined;
  try {
    await countArrivals(lab);
    // As kube-proxy has it on every node: connections are tracked, and those from before are accepted.
    await iptables(lab, backend, '-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT');
    hammers = await startHammers(lab, { perSecond, lives: Math.ceil(Math.min(seconds, 50)), livesMs: Math.min(seconds, 50) * 1000 });
    const start = (): Daemon => startDaemon(lab, args, { store: kept === 'kept' });
    let daemon = kept === 'none' ? undefined : start();
    await daemon?.ready();
    const ours = await rulesOf(lab, backend);
    await arrived(lab);

    hammers.begin();
    const killDaemon = async (): Promise<void> => {
      await daemon?.kill('SIGKILL');
      if (kept === 'alone') daemon = start();
    };
    running = adversary === 'nobody' ? undefined : adversaries[adversary]({ lab, backend, ours, killDaemon });
    await new Promise(over => setTimeout(over, seconds * 1000));
    await running?.stop();
    const stoppedMs = Date.now();
    const { status, missing } = daemon === undefined ? nothingKept : await inOrder(lab, backend, daemon, ours);
    const backAfterMs = status && Date.now() - stoppedMs;
    const pods = await hammers.end();

    const outcome = {
      ...sum(Object.values(pods)), pods, seconds, status, backAfterMs, missing,
      rounds: running?.rounds() ?? 0,
      trouble: running?.trouble() ?? '',
      arrived: await arrived(lab),
      nodeReaches: (await lab.request('node', { version: 2, timeoutMs: 5000 })).fate === 'reached',
    };
    await daemon?.stop();
    return outcome;
  } finally {
    hammers?.stop();
    await running?.stop().catch(() => {});
    await lab.remove();
  }
}

const nothingKept = { status: undefined, missing: [] };
const backWithinMs = 90_000;

/** The daemon says that all is as it should be, and it is: what it has not been told yet it cannot say. */
async function inOrder(lab: Lab, backend: Backend, daemon: Daemon, ours: readonly OurRule[]): Promise<Pick<Outcome, 'status' | 'missing'>> {
  const deadline = performance.now() + backWithinMs;
  for (;;) {
    const status = await daemon.statusThat(isInOrder, Math.max(1, deadline - performance.now()));
    const there = new Set((await rulesOf(lab, backend)).map(words));
    const missing = ours.map(words).filter(rule => !there.has(rule));
    if (missing.length === 0 || performance.now() > deadline) return { status, missing };
  }
}

const isInOrder = ({ answer, counts, overwrites }: WatchStatus): boolean =>
  answer === 'blocked' && counts.rules.length > 0 && counts.rules.every(({ present }) => present) && overwrites.every(({ restoredAfterMs }) => restoredAfterMs !== undefined);

const words = ({ family, table, line }: OurRule): string => `${family} ${table}: ${line}`;

async function rulesOf(lab: Lab, backend: Backend): Promise<OurRule[]> {
  const found: OurRule[] = [];
  for (const family of families) {
    let table = '';
    for (const line of (await must(lab, `${programOf(family, backend)}-save`)).split('\n')) {
      if (line.startsWith('*')) table = line.slice(1);
      if (/^-A .* -d (169\.254\.169\.254\/32|fd00:ec2::254\/128) .*-j (DROP|REJECT)/.test(line)) found.push({ family, table, line });
    }
  }
  return found;
}
