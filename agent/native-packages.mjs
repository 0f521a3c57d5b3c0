// Where the packages are that hold a machine's own code: Node itself, and the native half of koffi.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * The folder with those for `arch`. npm installs this machine's alone; another's are fetched by the same lock file, so that
 * their hashes are checked, into a folder of their own.
 */
export function nativePackages(root, arch) {
  if (arch === process.arch) return join(root, 'node_modules');
  if (arch !== 'x64' && arch !== 'arm64') throw new Error(`there is no Node for ${arch}: x64 or arm64`);
  const place = join(root, 'node_modules/.cache', `imds-guard-${arch}`);
  const found = join(place, 'node_modules');
  if (existsSync(join(found, `node-linux-${arch}/bin/node`))) return found;
  rmSync(place, { recursive: true, force: true });
  for (const name of ['package.json', 'package-lock.json', '.npmrc', 'agent/node-iptables/package.json']) {
    mkdirSync(dirname(join(place, name)), { recursive: true });
    copyFileSync(join(root, name), join(place, name));
  }
  const args = ['ci', '--omit=dev', '--os=linux', `--cpu=${arch}`, '--libc=glibc', '--loglevel=error', '--no-progress'];
  execFileSync('npm', args, { cwd: place, stdio: ['ignore', 'ignore', 'inherit'] });
  return found;
}
