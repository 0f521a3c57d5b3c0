import { existsSync } from 'node:fs';
import { IptablesError, type Ran, explainFailure } from '../errors.ts';

export interface Request {
  readonly program: string;
  readonly args: readonly string[];
  readonly stdin?: string | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** The caller's PATH, searched after the directories where the programs usually are. */
  readonly path?: string | undefined;
  /** Words before the program: `['ip', 'netns', 'exec', 'pod']`. */
  readonly prefix?: readonly string[] | undefined;
}

export interface Output {
  readonly stdout: string;
  /** Warnings: the program succeeded. */
  readonly stderr: string;
}

/**
 * Runs one program to its end: the one place of this package that starts any. No shell, no environment but PATH and
 * LC_ALL=C (whose texts are the ones that `explainFailure` knows). Rejects with an IptablesError when the program
 * cannot be started, fails, prints too much, or takes too long; it is killed then.
 */
export async function run(request: Request): Promise<Output> {
  const { program, args, stdin, timeoutMs, signal } = request;
  const asked = { command: program, args, stdin };
  if (signal?.aborted) throw new IptablesError('aborted', `${program} was not started: aborted`, { ...asked, stderr: '', cause: signal.reason });
  // 140 ms of start-up that a process which only judges a saved file need not pay.
  const { execa } = await import('execa');
  const path = request.path ? `${SBIN}:${request.path}` : SBIN;
  const [file, ...words] = [...(request.prefix ?? []), program, ...args];
  const result = await execa(file!, words, {
    reject: false,
    extendEnv: false,
    env: { LC_ALL: 'C', PATH: path },
    // An empty string, not 'ignore' nor our own stdin: a program that reads must come to an end.
    input: stdin ?? '',
    stripFinalNewline: false,
    // 50,000 rules are 5 MiB; nft's JSON of them is 60.
    maxBuffer: 256 * 1024 * 1024,
    timeout: timeoutMs,
    // Restores are one message to the kernel, so a kill cuts none in half; a polite signal could be waited for in vain.
    killSignal: 'SIGKILL',
    ...(signal ? { cancelSignal: signal } : {}),
  });
  if (!result.failed) return { stdout: result.stdout, stderr: result.stderr };

  // With a prefix it is the prefix's program that could not be started.
  const command = result.code === 'ENOENT' || result.code === 'EACCES' ? file! : program;
  const ran: Ran = {
    ...asked,
    command,
    stderr: result.stderr ?? '',
    exitCode: result.exitCode,
    killedBy: result.signal,
    spawnCode: result.exitCode === undefined && result.signal === undefined ? spawnCode(result.code, file!, path) : undefined,
    cause: result.cause,
  };
  if (result.timedOut) throw new IptablesError('timed-out', `${program} gave no answer in ${timeoutMs} ms and was killed. Read the ruleset again: it may have done its work.`, ran);
  if (result.isCanceled) throw new IptablesError('aborted', `${program} was killed: aborted. Read the ruleset again: it may have done its work.`, ran);
  if (result.isMaxBuffer) throw new IptablesError('unreadable', `${program} printed more than 256 MiB.`, ran);
  const { kind, message } = explainFailure(ran);
  throw new IptablesError(kind, message, ran);
}

/** A PATH with a directory that may not be searched makes execvp(3) say EACCES of a program that is nowhere. */
const spawnCode = (code: string | undefined, file: string, path: string): string | undefined =>
  code === 'EACCES' && !file.includes('/') && !path.split(':').some((directory) => existsSync(`${directory}/${file}`)) ? 'ENOENT' : code;

const SBIN = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin';
