// Programs that die with the process that started them, however it dies, and a folder of theirs that goes when the last of them has.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Dependent {
  readonly pid: number;
  /** Rejects when it ends, with the last words of its log: it is not meant to. */
  readonly ended: Promise<never>;
}

export interface Dependents {
  readonly folder: string;
  /** Its output is in `<name>.log` in the folder. */
  start(name: string, program: string, args: readonly string[]): Dependent;
  /** Resolves when all are dead and the folder is gone. */
  end(): Promise<void>;
}

const lastLines = 15;

/**
 * The kernel kills the programs when this process dies (setpriv). The folder cannot be removed by then, for they may still write; so
 * a shell waits for the end of a pipe that this process and each of them hold.
 */
export function makeDependents(): Dependents {
  const folder = mkdtempSync(join(tmpdir(), 'imds-guard-cluster-'));
  const remover = spawn('sh', ['-c', 'cat >/dev/null; exec rm -rf -- "$1"', 'sh', folder], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true, // ^C is sent to the whole process group
  });
  const pipe = remover.stdin as Socket;
  remover.unref();
  pipe.unref();
  const children: ChildProcess[] = [];
  return {
    folder,
    start: (name, program, args) => {
      const file = join(folder, `${name}.log`);
      const log = openSync(file, 'a');
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { cwd: folder, stdio: ['ignore', log, log, pipe] });
      closeSync(log);
      child.unref();
      children.push(child);
      const ended = once(child, 'exit').then(([code, signal]) => {
        throw new Error(`${name} has ended (${code ?? signal}):\n${readFileSync(file, 'utf8').trim().split('\n').slice(-lastLines).join('\n')}`);
      });
      ended.catch(() => {}); // it is told to whoever waits for the program
      if (child.pid === undefined) throw new Error(`${name} could not be started`);
      return { pid: child.pid, ended };
    },
    end: async () => {
      await Promise.all(children.map(end));
      remover.ref();
      pipe.end();
      if (remover.exitCode === null) await once(remover, 'exit');
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  child.kill('SIGKILL'); // what they keep is thrown away
  await once(child, 'exit');
}
