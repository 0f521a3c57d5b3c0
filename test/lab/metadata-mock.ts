// AWS's own mock of the instance metadata service, as a second opinion on what IMDS says. Built once, in the open (the tests have
// no way out), into a folder of the user's cache:
//
//   node test/lab/metadata-mock.ts
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const MODULE = 'github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock';
const VERSION = 'v1.13.0';
const PROGRAM = 'ec2-metadata-mock';

const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'imds-guard');
const program = join(cache, `${PROGRAM}-${VERSION}`);

export type MetadataMock = { readonly program: string } | { readonly missing: string };

export const metadataMock = (): MetadataMock => (existsSync(program) ? { program } : { missing: `there is no ${program}: Go is needed to build it (node test/lab/metadata-mock.ts)` });

/** Nothing to do where it is there. */
function build(): void {
  if (existsSync(program)) return;
  mkdirSync(cache, { recursive: true });
  const directory = mkdtempSync(join(cache, 'build-'));
  try {
    const { status, error, stderr } = spawnSync('go', ['install', `${MODULE}@${VERSION}`], {
      env: { ...process.env, GOBIN: directory, CGO_ENABLED: '0', PATH: `${process.env['PATH'] ?? ''}:/usr/local/go/bin` },
      encoding: 'utf8',
      timeout: LONGEST_MS,
    });
    if (status !== 0) throw new Error(error?.message ?? stderr.trim().split('\n').at(-1));
    renameSync(join(directory, PROGRAM), program);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const LONGEST_MS = 300_000;

if (import.meta.main) {
  try {
    build();
  } catch (error) {
    console.error(`${PROGRAM} was not built: ${error instanceof Error ? error.message : String(error)}`);
  }
}
