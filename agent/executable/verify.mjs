// Looks whether an executable is what it should be.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where Node looks, before anything else, whether it is an executable of somebody's: `:0` it is not, `:1` it is. */
export const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/**
 * Where putting the blob in failed, the file is a Node that takes its first argument for a script.
 *
 * @throws for that, and for an executable that runs here and does not say what it is
 */
export function verify(executable, arch, blob) {
  const bytes = readFileSync(executable);
  if (!bytes.includes(`${FUSE}:1`) || !bytes.includes(blob)) throw new Error(`${executable} is without the program: postject failed`);
  const run = arch === process.arch ? [executable] : emulated(arch, executable);
  if (run === undefined) return console.error(`${arch}: not run here, for there is no qemu-user; looked into only`);
  const { status, stdout, stderr, error } = spawnSync(run[0], [...run.slice(1), 'version', '--output', 'json'], { env: {}, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${executable} version: ${error?.message ?? `exit ${status} ${stderr}`}`);
  const said = JSON.parse(stdout);
  const sbomSha256 = sha256(readFileSync(`${executable}.packages.json`));
  if (said.arch !== arch || said.sbomSha256 !== sbomSha256) throw new Error(`${executable} says that it is ${stdout}`);
}

/** What runs it here, undefined where nothing does. Debian: qemu-user-static, libstdc++6-arm64-cross and libgcc-s1-arm64-cross. */
export function emulated(arch, executable) {
  const [qemu, libraries] = ['/usr/bin/qemu-aarch64-static', '/usr/aarch64-linux-gnu'];
  return arch === 'arm64' && existsSync(qemu) && existsSync(join(libraries, 'lib/libstdc++.so.6')) ? [qemu, '-L', libraries, executable] : undefined;
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
