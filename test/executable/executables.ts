// The single executables of this checkout, built in the open (the tests have no way out, and npm fetches the other machine's Node):
//
//   node test/executable/executables.ts
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { emulated } from '../../agent/executable/verify.mjs';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
/** Not in dist/, which a build replaces. */
export const folder = join(checkout, 'node_modules/.cache/imds-guard-executable');
export const executableFor = (arch: string): string => join(folder, `imds-guard-linux-${arch}`);
/** The one that runs here. */
export const executable = executableFor(process.arch);
export const folderProgram = join(checkout, 'dist/imds-guard');
/** A loud reason to skip, or false. */
export const noExecutable: string | false = existsSync(executable) ? false : 'NOT BUILT: node test/executable/executables.ts';
/** What runs the one for arm64 on x64; undefined where nothing does. */
export const arm64: readonly string[] | undefined = process.arch === 'x64' ? emulated('arm64', executableFor('arm64')) : undefined;

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program with nothing of the tester's environment but PATH. */
export function run(command: readonly string[], { env = {}, input = '' }: { readonly env?: Readonly<Record<string, string>>; readonly input?: string } = {}): Ran {
  const [file = '', ...args] = command;
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8', input, env: { PATH: process.env['PATH'] ?? '', ...env }, maxBuffer: 64 * 2 ** 20 });
  if (error) throw new Error(`${file}: ${error.message}`);
  return { status, stdout, stderr };
}

/** Builds both into a folder. @throws with what the build said. */
export function build(into: string): string {
  // tap would load its hooks into every Node, and V8 makes other code of what they count.
  const { status, stderr } = spawnSync('sh', ['-c', 'unset NODE_OPTIONS; exec "$@"', 'sh', process.execPath, join(checkout, 'agent/executable/build.mjs'), into], { encoding: 'utf8', env: { PATH: process.env['PATH'] ?? '' } });
  if (status !== 0) throw new Error(`agent/executable/build.mjs: exit ${status}: ${stderr}`);
  return readFileSync(join(into, 'SHA256SUMS'), 'utf8');
}

if (import.meta.main) {
  build(folder);
  if (process.arch === 'x64' && arm64 === undefined) console.error('NO QEMU: the executable for arm64 will not be run; apt-get install qemu-user-static libstdc++6-arm64-cross libgcc-s1-arm64-cross');
}
