// A Debian whose pid 1 is systemd, for nodes to stand on. Made in the open (the tests have no way out), into a folder of the user's cache:
//
//   node test/systemd/debian.ts
//
// Takes root, and debootstrap, which is installed where there is apt-get.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { mirror } from '../image/image.ts';

const cache = join(process.env['IMDS_GUARD_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'imds-guard'), 'systemd');
const SUITE = 'trixie';
const PACKAGES = ['systemd', 'systemd-sysv', 'dbus', 'iptables', 'nftables', 'iproute2', 'curl'] as const;
const place = join(cache, createHash('sha256').update([SUITE, ...PACKAGES].join()).digest('hex').slice(0, 16));

/** Its root, which nobody may write to; or why there is none: then a test skips, loudly. */
export function debian(): { readonly root: string } | { readonly missing: string } {
  if (process.getuid?.() !== 0) return { missing: 'systemd is run as root only' };
  return existsSync(place) ? { root: place } : { missing: 'there is no Debian to run systemd in: node test/systemd/debian.ts' };
}

function make(): void {
  if (existsSync(place) || process.getuid?.() !== 0) return;
  if (!has('debootstrap') && has('apt-get')) apt('install', '-y', '-qq', 'debootstrap');
  if (!has('debootstrap')) return console.error('NO DEBIAN: there is no debootstrap');
  mkdirSync(cache, { recursive: true });
  console.error('making a Debian with systemd, once: a minute');
  const fresh = mkdtempSync(join(cache, 'new-'));
  try {
    const { status, stdout } = spawnSync('debootstrap', ['--variant=minbase', `--include=${PACKAGES.join()}`, SUITE, join(fresh, 'root'), mirror()], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    if (status !== 0) throw new Error(`debootstrap: exit ${status}\n${stdout.slice(-3000)}`);
    rmSync(join(fresh, 'root/var/cache/apt/archives'), { recursive: true, force: true });
    renameSync(join(fresh, 'root'), place);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

function apt(...args: readonly string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  spawnSync('apt-get', ['update', '-qq'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  spawnSync('apt-get', args, { env, stdio: ['ignore', 'ignore', 'inherit'] });
}

if (import.meta.main) {
  make();
  const made = debian();
  console.error('missing' in made ? `NO DEBIAN: ${made.missing}` : made.root);
}
