// `imds-guard watch` on the lab's node: its log as events, its status, and its death.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { WatchStatus } from '../../agent/core/watch-status.ts';
import type { Lab, Started } from './lab.ts';

const built = fileURLToPath(new URL('../../dist/imds-guard', import.meta.url));
const descriptorStore = fileURLToPath(new URL('descriptor-store.py', import.meta.url));

/** A line of the daemon's log, or of the descriptor store's (`event`). */
export type DaemonEvent = Readonly<Record<string, any>> & { readonly msg?: string; readonly event?: string };

export interface DaemonOptions {
  /** Under a descriptor store, which starts it again whenever it dies and gives it back the socket that owns the table. */
  readonly store?: boolean;
  /** Words before the program, to run it as somebody else or among other mounts; they must exec it. */
  readonly before?: readonly string[];
  /** Another than dist/imds-guard. */
  readonly program?: string;
}

export interface Daemon {
  /** All lines so far. */
  readonly events: readonly DaemonEvent[];
  /** The first event that is so; those before `since` do not count. Rejects when the daemon ends, or after `withinMs`. */
  until(is: (event: DaemonEvent) => boolean, options?: { readonly since?: number; readonly withinMs?: number }): Promise<DaemonEvent>;
  /** When it has proved that pods are blocked. */
  ready(): Promise<void>;
  /** GET /status, from inside the node's namespace: of now. Waits for that, up to a second after the last. */
  status(): Promise<WatchStatus>;
  /** The first status that is so. Nothing tells when a status changes, so it is asked again and again. */
  statusThat(is: (status: WatchStatus) => boolean, withinMs?: number): Promise<WatchStatus>;
  readonly pid: number | undefined;
  /** Resolves when this process is dead; under a store another one follows. */
  kill(signal: 'SIGKILL'): Promise<void>;
  /** Resolves when everything of it is gone. */
  stop(): Promise<void>;
  /** How it ended, once it has. */
  readonly ended: Promise<{ readonly exitCode: number | undefined; readonly stderr: string }>;
}

const askAgainMs = 100;
/** The daemon reads its status once a second, and this is asked for what is true now. */
const statusIsNewAfterMs = 1010;

export function startDaemon(lab: Lab, args: readonly string[] = [], { store = false, before = [], program = built }: DaemonOptions = {}): Daemon {
  const command = [...before, ...(store ? ['python3', descriptorStore, '--'] : []), program, 'watch', ...args];
  const started: Started = lab.start(lab.node, command[0] ?? '', command.slice(1));
  const events: DaemonEvent[] = [];
  const asker = startAsker(lab);
  let errors = '';
  let ended = false;
  const waiting = new Set<() => void>();
  const wake = (): void => waiting.forEach(look => look());

  createInterface({ input: started.stdout! }).on('line', line => {
    events.push(parsed(line));
    wake();
  });
  started.stderr!.on('data', data => (errors += String(data)));
  const dead = once(started.nodeChildProcess, 'exit');
  const gone = started.then(() => {
    ended = true;
    asker.dismiss();
    wake();
  });

  const story = (): string => [...events.slice(-20).map(event => JSON.stringify(event)), errors].join('\n');
  const until: Daemon['until'] = (is, { since = 0, withinMs = 30_000 } = {}) =>
    new Promise((resolve, reject) => {
      const settle = (then: () => void): void => {
        clearTimeout(timer);
        waiting.delete(look);
        then();
      };
      const look = (): void => {
        const found = events.slice(since).find(is);
        if (found !== undefined) settle(() => resolve(found));
        else if (ended) settle(() => reject(new Error(`the daemon has ended:\n${story()}`)));
      };
      const timer = setTimeout(() => settle(() => reject(new Error(`it never said ${is.name || is}:\n${story()}`))), withinMs);
      waiting.add(look);
      look();
    });
  let newAtMs = 0;
  const status = async (): Promise<WatchStatus> => {
    await new Promise(later => setTimeout(later, Math.max(0, newAtMs - performance.now())));
    const said = await asker.ask();
    newAtMs = performance.now() + statusIsNewAfterMs;
    return said;
  };
  const statusThat: Daemon['statusThat'] = async (is, withinMs = 30_000) => {
    const deadline = performance.now() + withinMs;
    let last: unknown;
    while (performance.now() < deadline && !ended) {
      try {
        const said = await status();
        if (is(said)) return said;
        last = { ...said, report: undefined };
      } catch (error) {
        // It has just been started: nobody listens yet.
        last = String(error);
        await new Promise(later => setTimeout(later, askAgainMs));
      }
    }
    throw new Error(`never ${is.name || is}; the last: ${JSON.stringify(last)}\n${story()}`);
  };

  return {
    events,
    pid: started.pid,
    ended: started.then(({ exitCode }) => ({ exitCode, stderr: errors })),
    until,
    ready: async () => void (await until(isBlocked)),
    status,
    statusThat,
    kill: async signal => {
      const pid = store ? events.findLast(({ event }) => event === 'started')?.['pid'] : started.pid;
      if (typeof pid !== 'number') throw new Error('it has not been started yet');
      const since = events.length;
      process.kill(pid, signal);
      if (store) await until(({ event }) => event === 'ended', { since });
      // Not when its output ends: a look that it began may hold that for a while.
      else await dead;
    },
    stop: async () => {
      if (!ended) started.kill('SIGTERM');
      await gone;
    },
  };
}

export const isBlocked = ({ msg }: DaemonEvent): boolean => msg === 'pods and IMDS: blocked';

function parsed(line: string): DaemonEvent {
  try {
    return JSON.parse(line) as DaemonEvent;
  } catch {
    return { unread: line };
  }
}

const asking = `
  const http = process.getBuiltinModule('node:http');
  process.on('disconnect', () => process.exit());
  process.on('message', id => {
    const asked = http.get({ host: '127.0.0.1', port: 16925, path: '/status', agent: false, timeout: 5000 }, async answer => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      process.send({ id, text });
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer')));
    asked.on('error', error => process.send({ id, failed: String(error) }));
  });`;

/** A process that lives in the node's namespace and asks for the status when it is told to: there may be no curl. */
function startAsker(lab: Lab): { ask(): Promise<WatchStatus>; dismiss(): void } {
  const child = spawn('nsenter', [`--net=/run/netns/${lab.node}`, process.execPath, '-e', asking], {
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the daemon has ended, and nobody asks any more')));
  ended.catch(() => {}); // it is told to whoever asks
  let asked = 0;
  child.setMaxListeners(0);
  child.unref();
  child.channel?.unref();
  return {
    ask: async () => {
      const id = (asked += 1);
      child.channel?.ref();
      child.send(id, () => {}); // that it has ended is told below
      for (;;) {
        const [said] = (await Promise.race([once(child, 'message'), ended])) as [{ readonly id: number; readonly text?: string; readonly failed?: string }];
        if (said.id !== id) continue;
        child.channel?.unref();
        if (said.text === undefined) throw new Error(said.failed);
        return JSON.parse(said.text) as WatchStatus;
      }
    },
    dismiss: () => void child.kill('SIGKILL'),
  };
}
