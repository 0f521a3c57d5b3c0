import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Settings } from '../core/settings.ts';
import type { Look, Looked } from '../core/watch/look.ts';

export interface LookSources {
  /** What starts this program: its file, and arguments before the command. */
  readonly self: readonly [file: string, ...args: readonly string[]];
  readonly path: string | undefined;
  /** Whether this process keeps the guard table; otherwise the look writes a plain one. */
  readonly keepsGuard: boolean;
}

/**
 * A look at the node in a process of its own: `apply`, with `--dry-run` where nothing is to be written. A table of fifty thousand
 * rules takes some hundred MiB to read; they go when that process ends, and the daemon stays small. For the
 * same reason it is not started by execa as every other program is, which would cost the daemon 7 MiB for good.
 * Never rejects.
 */
export const lookInProcess = ({ self: [program, ...args], path, keepsGuard }: LookSources) =>
  async (write: boolean, settings: Settings, signal: AbortSignal): Promise<Look> => {
    const command = write ? 'apply' : 'apply --dry-run';
    const guard: Settings['guard'] = settings.guard === 'none' ? 'none' : keepsGuard ? 'watched' : 'plain';
    // Each of its programs has its own time-out; this is for a process that hangs by itself.
    const timeoutMs = 1000 * (60 + 4 * (settings.timeoutSeconds + settings.lockWaitSeconds));
    const ended = await run(program, [...args, ...command.split(' '), '--output', 'json', '--config', '-'], JSON.stringify({ ...settings, guard }), path, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
    if (typeof ended === 'string') return { ok: false, because: `${command}: ${ended}` };
    // Blocked, open, unknown: answers. Everything else is a mistake or a bug, and said on stderr.
    if (ended.code === null || ended.code > 2) return { ok: false, because: `${command} ended with ${ended.code ?? 'a signal'}: ${lastLine(ended.stderr)}` };
    return readLook(ended.stdout) ?? { ok: false, because: `${command} printed no JSON` };
  };

interface Ended {
  /** null: a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What came of it; a text where it could not be started or was stopped. */
function run(program: string, args: readonly string[], input: string, path: string | undefined, signal: AbortSignal): Promise<Ended | string> {
  return new Promise((resolve) => {
    const env = { LC_ALL: 'C', ...(path === undefined ? {} : { PATH: path }) };
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    const failed = (error: unknown): void => resolve(signal.aborted ? `stopped: ${String(signal.reason)}` : String(error));
    try {
      const child = spawn(program, args, { env, stdio: 'pipe', signal, killSignal: 'SIGKILL' });
      child.on('error', failed);
      child.on('close', (code) => resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }));
      // There are none where no descriptors are left: then only the error comes.
      (child.stdout as Readable | undefined)?.on('data', (part: Buffer) => stdout.push(part));
      (child.stderr as Readable | undefined)?.on('data', (part: Buffer) => stderr.push(part));
      // It may end without having read everything.
      (child.stdin as Writable | undefined)?.on('error', () => {}).end(input);
    } catch (error) {
      failed(error);
    }
  });
}

function readLook(text: string): Look | undefined {
  try {
    const { mode: _, dryRun, steps, problems, left, backend, unread, ...report } = JSON.parse(text) as Looked & Looked['report'] & { readonly mode: unknown };
    return report.answer === undefined ? undefined : { ok: true, report, dryRun, steps, problems, left, backend, unread };
  } catch {
    return undefined;
  }
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';
