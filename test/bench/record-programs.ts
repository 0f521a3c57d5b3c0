// Loaded into imds-guard by --import: writes down which programs it starts and which had ended by then.
import type { ChildProcess } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';

/** A program, and how many rounds of programs had ended before it was started. */
export interface Recorded {
  readonly argv: readonly string[];
  readonly round: number;
}

const started: { process: ChildProcess; round: number }[] = [];
let ended = 0;

subscribe('child_process', (message) => {
  const { process } = message as { process: ChildProcess };
  started.push({ process, round: ended });
  process.once('exit', () => {
    ended = Math.max(ended, (started.find((one) => one.process === process)?.round ?? 0) + 1);
  });
});

process.on('exit', () => {
  const to = process.env['RECORD_PROGRAMS_TO'];
  if (to !== undefined) writeFileSync(to, JSON.stringify(started.map(({ process: { spawnargs: argv }, round }): Recorded => ({ argv, round }))));
});
