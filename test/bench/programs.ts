import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Executable } from './executable.ts';
import type { Recorded } from './record-programs.ts';
import { NotMeasured, type Run } from './timing.ts';

/**
 * The programs that a command of imds-guard starts, as a shell starts them: together where the command has them run
 * together, one after the other where it does. What is left when their time is taken from the command's is ours.
 */
export function programsOf(executable: Executable, command: readonly string[], payloads: readonly Payload[] = []): { run: Run; argvs: readonly string[] } {
  const recording = join(executable.directory, 'programs.json');
  const recorder = fileURLToPath(new URL('record-programs.ts', import.meta.url));
  const { status } = spawnSync(executable.node, ['--import', recorder, executable.entry, ...command], { env: { ...process.env, RECORD_PROGRAMS_TO: recording } });
  if (status === null || status > 2) throw new NotMeasured(`imds-guard ${command.join(' ')}: exit ${status}`);
  const recorded = JSON.parse(readFileSync(recording, 'utf8')) as readonly Recorded[];
  if (recorded.length === 0) throw new NotMeasured(`imds-guard ${command.join(' ')} started no program`);
  const files = filesOf(executable.directory, payloads);
  const rounds = [...new Set(recorded.map(({ round }) => round))].sort((a, b) => a - b);
  const script = rounds.map((round) => [...recorded.filter((one) => one.round === round).map((one) => `${lineOf(one, files)} &`), 'wait'].join('\n')).join('\n');
  return { run: { file: 'sh', args: ['-c', script] }, argvs: recorded.map(({ argv }) => argv.join(' ')) };
}

/** What a restore reads, in the order in which restores are started. */
export interface Payload {
  readonly program: string;
  readonly text: string;
}

function filesOf(directory: string, payloads: readonly Payload[]): { program: string; file: string }[] {
  return payloads.map(({ program, text }, at) => {
    const file = join(directory, `payload-${at}`);
    writeFileSync(file, text);
    return { program, file };
  });
}

function lineOf({ argv }: Recorded, files: { program: string; file: string }[]): string {
  const at = files.findIndex(({ program }) => program === argv[0]);
  const input = at < 0 ? '/dev/null' : files.splice(at, 1)[0]!.file;
  return `${argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')} <'${input}' >/dev/null 2>&1`;
}
