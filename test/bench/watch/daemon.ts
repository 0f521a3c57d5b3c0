import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import type { WatchStatus } from '../../../agent/core/watch-status.ts';

/** A line of the daemon's log. */
export interface LogLine {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** Long enough for a look at 50,000 rules on a busy machine; whoever waits longer waits for something that does not come. */
const PATIENCE_MS = 60_000;
const STATUS_IS_NEW_AFTER_MS = 1010;

/** A signal alone would end this process without a word to those it started. */
const endOurselves = (): never => process.exit(1);
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** `imds-guard watch` in this network namespace: what it logs, and what it answers. */
export class Daemon {
  readonly lines: LogLine[] = [];
  private readonly child: ChildProcess;
  private readonly waiting = new Set<() => void>();
  private ended = false;
  private newAtMs = 0;

  /** @param env settings, as IMDS_GUARD_GUARD=none: nothing else of ours is handed on */
  constructor(launcher: string, env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(launcher, ['watch'], { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
    this.child.on('exit', () => {
      this.ended = true;
      this.wake();
    });
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      this.lines.push(JSON.parse(line) as LogLine);
      this.wake();
    });
    // Whoever ends without stop() takes it along; what it keeps in the kernel goes with the namespace.
    process.once('exit', this.kill);
    for (const signal of SIGNALS) process.once(signal, endOurselves);
  }

  /** The launcher becomes the daemon, so it has this number from the start. */
  get pid(): number {
    return this.child.pid!;
  }

  /** Resolves with the first line of that kind, from the given place in `lines` on. Rejects when the daemon ends, or goes on without it. */
  async line(is: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    for (let at = from, giveUpAt = performance.now() + PATIENCE_MS; ; ) {
      for (; at < this.lines.length; at++) if (is(this.lines[at]!)) return this.lines[at]!;
      if (this.ended || performance.now() > giveUpAt) throw new Error(`the daemon ${this.ended ? 'ended' : 'did not say it'}; last: ${JSON.stringify(this.lines.at(-1))}`);
      await this.more();
    }
  }

  /** Resolves when it has proved that pods are blocked. */
  async blocked(): Promise<void> {
    await this.line(({ msg }) => msg === 'pods and IMDS: blocked');
  }

  /** Of now: it reads its status once a second. Waits for that, up to a second after the last. */
  async status(): Promise<WatchStatus> {
    await wait(Math.max(0, this.newAtMs - performance.now()));
    const { body } = await this.get('/status');
    this.newAtMs = performance.now() + STATUS_IS_NEW_AFTER_MS;
    return JSON.parse(body) as WatchStatus;
  }

  /** On a connection of its own, as kubelet asks. */
  async get(path: string): Promise<{ readonly code: number; readonly body: string }> {
    const asked = get({ host: '127.0.0.1', port: 16925, path, agent: false });
    const [response] = (await once(asked, 'response')) as [import('node:http').IncomingMessage];
    let body = '';
    for await (const part of response.setEncoding('utf8')) body += String(part);
    return { code: response.statusCode ?? 0, body };
  }

  async stop(): Promise<void> {
    process.off('exit', this.kill);
    for (const signal of SIGNALS) process.off(signal, endOurselves);
    if (this.ended) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    await gone;
  }

  private readonly kill = (): void => void this.child.kill('SIGKILL');

  private more(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS);
      this.waiting.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private wake(): void {
    const woken = [...this.waiting];
    this.waiting.clear();
    for (const go of woken) go();
  }
}
