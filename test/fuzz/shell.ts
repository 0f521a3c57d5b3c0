import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

export interface Ran {
  readonly status: number;
  /** What it wrote to either of its outputs. */
  readonly output: string;
}

/** One `sh` in a namespace that runs script after script: the fork of a shell is cheap, that of a test process is not. */
export class Shell {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  private readonly end = `end-${randomUUID()}`;
  private output = '';
  private waiting: { resolve(ran: Ran): void; reject(error: Error): void } | undefined;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(namespace: string, env: Readonly<Record<string, string>>) {
    this.process = spawn('nsenter', [`--net=/run/netns/${namespace}`, 'sh'], {
      env: { PATH: process.env['PATH'], LC_ALL: 'C', ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.process.stdout.setEncoding('utf8').on('data', (text: string) => this.hear(text));
    void once(this.process, 'close').then(() => this.waiting?.reject(new Error('the shell has ended')));
  }

  /** Scripts run one after the other, in the order they are given. Input for programs goes into here-documents. */
  run(script: string): Promise<Ran> {
    const ran = this.turn.then(
      () =>
        new Promise<Ran>((resolve, reject) => {
          this.waiting = { resolve, reject };
          this.output = '';
          this.process.stdin.write(`{ ${script.trim()}\n} 2>&1\necho "${this.end} $?"\n`);
        }),
    );
    this.turn = ran.catch(() => {});
    return ran;
  }

  async succeed(script: string): Promise<string> {
    const { status, output } = await this.run(script);
    if (status !== 0) throw new Error(`exit status ${status} and ${JSON.stringify(output)} from: ${script}`);
    return output;
  }

  private hear(text: string): void {
    this.output += text;
    const at = this.output.lastIndexOf(this.end);
    if (at < 0 || !this.output.endsWith('\n')) return;
    const status = Number(this.output.slice(at + this.end.length));
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.resolve({ status, output: this.output.slice(0, at) });
  }
}
