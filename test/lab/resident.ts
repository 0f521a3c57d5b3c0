// A process that lives in one namespace of the lab and answers orders over IPC until it is sent away.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ClientOrder, Reply, ServerOrder } from './protocol.ts';

type Unnumbered<O> = O extends unknown ? Omit<O, 'id'> : never;
export type UnnumberedOrder = Unnumbered<ClientOrder> | Unnumbered<ServerOrder>;

export interface Resident {
  /** Rejects when the resident has died, or says that it failed. */
  ask(order: UnnumberedOrder): Promise<Reply>;
  /** Resolves when the process is gone. */
  dismiss(): Promise<void>;
  readonly process: ChildProcess;
}

export function startResident(
  program: 'client.ts' | 'imds-server.ts',
  namespace: string,
  env: Readonly<Record<string, string>> = {},
): Resident {
  const script = fileURLToPath(new URL(program, import.meta.url));
  // nsenter rather than `ip netns exec`: it execs (so the channel and the pid are node's) and mounts nothing.
  const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, process.execPath, script], {
    // Not the whole environment: NODE_OPTIONS would load the test runner's hooks into every resident.
    env: { PATH: process.env['PATH'], LC_ALL: 'C', NODE_COMPILE_CACHE: compileCache, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const waiting = new Map<number, { resolve(reply: Reply): void; reject(error: Error): void }>();
  const gone = once(child, 'exit').then(() => {
    for (const { reject } of waiting.values()) reject(new Error(`${program} in ${namespace} has ended`));
    waiting.clear();
  });
  gone.catch(() => {}); // a spawn error is told to whoever asks
  child.on('error', error => {
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  });
  child.on('message', (reply: Reply) => {
    const asker = waiting.get(reply.id);
    waiting.delete(reply.id);
    rest();
    if ('failed' in reply) asker?.reject(new Error(`${program} in ${namespace}: ${reply.failed}`));
    else asker?.resolve(reply);
  });
  // Only an open question keeps the test process alive: a test that forgets its lab ends, and the lab goes with it.
  const rest = (): void => {
    if (waiting.size > 0) return;
    child.unref();
    child.channel?.unref();
  };
  let asked = 0;
  rest();
  return {
    process: child,
    ask: order =>
      new Promise((resolve, reject) => {
        asked += 1;
        waiting.set(asked, { resolve, reject });
        child.ref();
        child.channel?.ref();
        child.send({ ...order, id: asked }, error => {
          if (error !== null) reject(new Error(`${program} in ${namespace} has ended`, { cause: error }));
        });
      }),
    dismiss: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.ref();
      child.kill('SIGKILL'); // it holds nothing worth a goodbye, and it must not take itself for an orphan
      await gone;
    },
  };
}

/** Type stripping costs 45 ms a process; from the cache it costs nothing. A folder that is not writable is ignored. */
const compileCache = fileURLToPath(new URL('../../node_modules/.cache/imds-guard-lab', import.meta.url));
