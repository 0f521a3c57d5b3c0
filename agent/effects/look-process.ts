import { IptablesError } from 'node-iptables';
import { run } from 'node-iptables/exec';
import type { Settings } from '../core/settings.ts';
import type { Look, Role } from '../core/watch/look.ts';

export interface LookSources {
  /** What starts this program: its file, and arguments before the command. */
  readonly self: readonly [file: string, ...args: readonly string[]];
  readonly path: string | undefined;
}

/**
 * A look at the node in a process of its own: `apply` for the one who watches, `check` for the one who stands by. A table of
 * fifty thousand rules takes some hundred MiB to read; they go when that process ends, and the daemon stays small.
 * Never rejects.
 */
export const lookInProcess = ({ self: [program, ...args], path }: LookSources) =>
  async (role: Role, settings: Settings, signal: AbortSignal): Promise<Look> => {
    const command = role === 'watching' ? 'apply' : 'check';
    const guard: Settings['guard'] = settings.guard === 'none' ? 'none' : 'watched';
    try {
      const { stdout } = await run({
        program, signal, path,
        args: [...args, command, '--output', 'json', '--config', '-'],
        stdin: JSON.stringify({ ...settings, guard }),
        // Each of its programs has its own time-out; this is for a process that hangs by itself.
        timeoutMs: 1000 * (60 + 4 * (settings.timeoutSeconds + settings.lockWaitSeconds)),
        alsoDone: EXITS,
      });
      const { steps = [], problems = [], dryRun: _, ...report } = JSON.parse(stdout) as Extract<Look, { ok: true }> & Extract<Look, { ok: true }>['report'] & { dryRun?: boolean };
      return { ok: true, report, steps, problems };
    } catch (error) {
      if (error instanceof IptablesError) return { ok: false, because: `${command}: ${error.message}` };
      if (error instanceof SyntaxError) return { ok: false, because: `${command} printed no JSON` };
      throw error;
    }
  };

/** Open, unknown: answers, like blocked. */
const EXITS = [1, 2];
