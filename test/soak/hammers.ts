// A hammer in every pod of a lab, and what they got, taken together.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Lab, Pod } from '../lab/lab.ts';
import type { HammerOptions, Hammered, Leak } from './hammer.ts';

export interface Hammers {
  begin(): void;
  /** Waits for the last answers. */
  end(): Promise<Readonly<Record<string, Hammered>>>;
  /** Without waiting for anything. */
  stop(): void;
}

const script = fileURLToPath(new URL('hammer.ts', import.meta.url));
const compileCache = fileURLToPath(new URL('../../node_modules/.cache/imds-guard-lab', import.meta.url));

/** Resolves when the live connections of all have been answered once: nothing must be in their way yet. */
export async function startHammers(lab: Lab, options: { readonly perSecond: number; readonly lives: number; readonly livesMs: number }): Promise<Hammers> {
  const pods = Object.values<Pod>(lab.pods);
  const hammers = pods.map(pod => ({
    name: pod.name,
    ...startHammer(pod.namespace, { ...options, perSecond: options.perSecond / pods.length, families: pod.address6 === '' ? [4] : [4, 6] }),
  }));
  const stop = (): void => hammers.forEach(hammer => hammer.stop());
  try {
    await Promise.all(hammers.map(({ next }) => next()));
  } catch (error) {
    stop();
    throw error;
  }
  return {
    stop,
    begin: () => hammers.forEach(({ order }) => order('begin')),
    end: async () => {
      hammers.forEach(({ order }) => order('end'));
      return Object.fromEntries(await Promise.all(hammers.map(async ({ name, next }) => [name, (await next()) as Hammered] as const)));
    },
  };
}

function startHammer(namespace: string, options: HammerOptions): { order(word: 'begin' | 'end'): void; next(): Promise<unknown>; stop(): void } {
  const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, process.execPath, script, JSON.stringify(options)], {
    env: { PATH: process.env['PATH'], LC_ALL: 'C', NODE_COMPILE_CACHE: compileCache },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    order: word => void child.stdin.write(`${word}\n`),
    stop: () => void child.kill('SIGKILL'),
    next: async () => {
      const { done, value } = await lines.next();
      if (done === true) throw new Error(`the hammer in ${namespace} has ended`);
      return JSON.parse(value) as unknown;
    },
  };
}

export interface Sum extends Pick<Hammered, 'attempts' | 'connected' | 'tokens' | 'version1' | 'version2' | 'live'> {
  readonly failed: number;
  readonly leaks: readonly Leak[];
}

/** Leaks that overlap are one: the node was open to somebody. */
export function sum(reports: readonly Hammered[]): Sum {
  const total = (of: (one: Hammered) => number): number => reports.reduce((all, one) => all + of(one), 0);
  return {
    attempts: total(one => one.attempts),
    connected: total(one => one.connected),
    tokens: total(one => one.tokens),
    version1: total(one => one.version1),
    version2: total(one => one.version2),
    live: { opened: total(one => one.live.opened), asked: total(one => one.live.asked), answered: total(one => one.live.answered) },
    failed: total(one => Object.values(one.failed).reduce((all, times) => all + times, 0)),
    leaks: union(reports.flatMap(({ leaks }) => leaks)),
  };
}

function union(leaks: readonly Leak[]): Leak[] {
  const merged: Leak[] = [];
  for (const leak of leaks.toSorted((a, b) => a.fromMs - b.fromMs)) {
    const last = merged.at(-1);
    if (last !== undefined && leak.fromMs <= last.toMs) {
      merged.splice(-1, 1, { fromMs: last.fromMs, toMs: Math.max(last.toMs, leak.toMs), attempts: last.attempts + leak.attempts });
    } else merged.push(leak);
  }
  return merged;
}
