// The disk of a node: a Debian, and over it whatever the node writes, which is there again at the next boot.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * Would come by the machine that the tests run on: its kernel's settings, modules and file systems are not in namespaces. Or take
 * time, and have nothing to do here.
 */
const MASKED = [
  'systemd-sysctl.service', 'systemd-modules-load.service', 'systemd-binfmt.service', 'proc-sys-fs-binfmt_misc.automount', 'systemd-journald-audit.socket',
  'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'sys-kernel-config.mount', 'sys-fs-fuse-connections.mount', 'dev-hugepages.mount', 'dev-mqueue.mount',
  'systemd-remount-fs.service', 'systemd-pstore.service', 'modprobe@.service', 'systemd-random-seed.service', 'systemd-hibernate-clear.service', 'systemd-logind.service',
  'systemd-firstboot.service', 'getty.target', 'console-getty.service', 'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'fstrim.timer',
] as const;

export class Disk {
  readonly #place = mkdtempSync('/run/disk-');
  /** As the node sees it. */
  readonly root = join(this.#place, 'root');

  readonly #debian: string;

  /** /run is a private tmpfs here (test/run.ts): what is made there is gone with the tests. */
  constructor(debian: string) {
    this.#debian = debian;
    for (const name of ['root', 'upper', 'work']) mkdirSync(join(this.#place, name));
    must('mount', '-t', 'overlay', '-o', `lowerdir=${debian},upperdir=${this.#place}/upper,workdir=${this.#place}/work`, 'overlay', this.root);
    this.write('/etc/machine-id', '0123456789abcdef0123456789abcdef\n');
    this.write('/etc/hostname', 'node\n');
    // A boot's journal is of that boot.
    this.write('/etc/systemd/journald.conf.d/volatile.conf', '[Journal]\nStorage=volatile\n');
    for (const unit of MASKED) this.link('/dev/null', `/etc/systemd/system/${unit}`);
    this.link('/lib/systemd/system/multi-user.target', '/etc/systemd/system/default.target');
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text, { mode });
  }
  link(to: string, path: string): void {
    rmSync(join(this.root, path), { force: true });
    symlinkSync(to, join(this.root, path));
  }
  has = (path: string): boolean => existsSync(join(this.root, path));
  read = (path: string): string => readFileSync(join(this.root, path), 'utf8');

  /** Patterns as the shell has them. */
  without(...programs: readonly string[]): void {
    must('sh', '-ec', `cd ${this.root}/usr/sbin; rm ${programs.join(' ')}`);
  }
  /** As if they were installed again. */
  mend(...programs: readonly string[]): void {
    must('sh', '-ec', `cd ${this.#debian}/usr/sbin; cp -a ${programs.join(' ')} ${this.root}/usr/sbin/`);
  }

  remove(): void {
    must('umount', '--lazy', this.root);
    rmSync(this.#place, { recursive: true });
  }
}

export function must(file: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
}
