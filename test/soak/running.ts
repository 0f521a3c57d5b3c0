// Programs in a namespace that do the same thing over and over, as fast as they can, until they are stopped.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

export interface Running {
  /** How often it has been done so far. */
  rounds(): number;
  /** What a program said last when it failed: mostly that somebody else was there first. */
  trouble(): string;
  stop(): Promise<void>;
}

export interface Stream {
  readonly namespace: string;
  readonly program: readonly [file: string, ...args: string[]];
  /** What is fed to it again and again; it makes the program print one line that begins with `mark`. */
  readonly script: string;
  readonly mark: string;
  /** How many rounds one script is. */
  readonly rounds?: number;
  /** Before the first script, each time the program is started. */
  readonly first?: string;
}

const chunkBytes = 8192;

/** One process that reads its orders, which is many times as fast as one for each; when it ends, the next. */
export function stream({ namespace, program, script, mark, rounds = 1, first = '' }: Stream): Running {
  const chunk = script.repeat(Math.max(1, Math.floor(chunkBytes / script.length)));
  let marks = 0;
  let trouble = '';
  let stopped = false;
  let child: ChildProcess | undefined;
  let ended = Promise.resolve<unknown>(undefined);

  const start = (): void => {
    // Where lines are not told to, they stay in the program's memory until there are many.
    const now = spawn('nsenter', [`--net=/run/netns/${namespace}`, 'stdbuf', '-oL', ...program], { env: { PATH: process.env['PATH'], LC_ALL: 'C' }, stdio: 'pipe' });
    child = now;
    ended = once(now, 'close');
    ended.catch((error: unknown) => (trouble = String(error)));
    let tail = '';
    now.stdout.setEncoding('latin1').on('data', (text: string) => {
      const lines = (tail + text).split('\n');
      tail = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith(mark)) marks += 1;
    });
    now.stderr.setEncoding('latin1').on('data', (text: string) => (trouble = text.trim()));
    // It may die while it is being fed.
    now.stdin.on('error', () => {});
    const feed = (): void => {
      while (!stopped && now.stdin.writable && now.stdin.write(chunk));
    };
    now.stdin.on('drain', feed);
    now.stdin.write(first);
    feed();
    now.on('close', () => {
      if (!stopped) start();
    });
  };
  start();
  return {
    rounds: () => marks * rounds,
    trouble: () => trouble,
    stop: async () => {
      stopped = true;
      child?.kill('SIGKILL');
      await ended;
    },
  };
}

/** A shell that runs the same lines over and over: for what only a process of its own can do. */
export function loop(namespace: string, lines: readonly string[]): Running {
  return stream({ namespace, program: ['sh', '-c', `while :; do\n${lines.join('\n')}\necho round\ndone`], script: '\n', mark: 'round' });
}

export function together(running: readonly Running[]): Running {
  return {
    rounds: () => running.reduce((all, one) => all + one.rounds(), 0),
    trouble: () => running.map(one => one.trouble()).findLast(words => words !== '') ?? '',
    stop: async () => void (await Promise.all(running.map(one => one.stop()))),
  };
}
