// A node whose pid 1 is systemd, on the lab's wiring: its network namespace is that of the lab's node. It sees nothing of this machine but
// the kernel: a root of its own, and a private /dev.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync } from 'node:fs';
import { type Server, createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type Fates, fates } from '../kernel/guard.ts';
import { type Execed, type Lab, makeLab } from '../lab/lab.ts';
import { type Disk, must } from './disk.ts';

export interface Node {
  readonly lab: Lab<PodName>;
  /** What pods got from IMDS at the moment that kubelet started: one for each start. */
  readonly kubelet: readonly Fates[];
  /** When the boot is over, kubelet's start and what pods got then included: `running`, or `degraded` where a unit has failed. */
  settled(): Promise<string>;
  /** Runs a program among the node's processes; never rejects because of what the program does. */
  run(file: string, ...args: readonly string[]): Promise<Execed>;
  /** Resolves when the journal of this boot has a line that is so; what was said before counts. */
  says(line: RegExp, options?: { readonly times?: number }): Promise<void>;
  journal(...units: readonly string[]): Promise<string>;
  /** The end of pid 1, and with it of everything: as when the power fails. The disk stays. */
  powerOff(): Promise<void>;
}

export type PodName = 'ordinary' | 'branch' | 'six';
const PODS = { ordinary: 'eni', branch: 'vlan', six: 'v6' } as const;

/** Where the executable is served, inside the node. */
export const PORT = 8000;
const fileServer = fileURLToPath(new URL('file-server.ts', import.meta.url));
const bootWithinMs = 60_000;
const saysWithinMs = 30_000;
const askAgainMs = 50;

/**
 * Each boot has new network namespaces, as each boot has a new firewall. `serves` is what a request to PORT brings: without, nobody
 * listens. `patienceMs` is how long a pod waits for an answer: where one is expected, longer than where none is.
 */
export async function boot(disk: Disk, { serves, patienceMs }: { readonly serves?: string; readonly patienceMs?: number } = {}): Promise<Node> {
  const cgroup = newCgroup();
  const lab = await makeLab({ pods: PODS, hopLimit: 2 });
  if (serves !== undefined) await serve(lab, serves);
  const kubelet: Fates[] = [];
  const shared = mkdtempSync('/run/shared-');
  const told = await listenAt(join(shared, 'kubelet'), async () => void kubelet.push(await fates(lab, ['node', ...Object.values(lab.pods)], patienceMs)));
  const starter = spawn('sh', ['-ec', START, 'sh', cgroup, lab.node, ENTER, disk.root, shared], { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  starter.stderr.on('data', (data) => (errors += String(data)));
  const gone = once(starter, 'exit');

  const inside = (file: string, args: readonly string[]): readonly string[] => ['-t', String(pidOne(starter)), '-a', '-r', '-w', 'env', '-i', `PATH=${PATH}`, 'LC_ALL=C', file, ...args];
  const run: Node['run'] = async (file, ...args) => {
    const { stdout, stderr, exitCode } = await execa('nsenter', inside(file, args), { reject: false, stripFinalNewline: false, timeout: bootWithinMs });
    return { stdout, stderr, exitCode };
  };
  return {
    lab,
    kubelet,
    run,
    settled: async () => {
      const deadline = performance.now() + bootWithinMs;
      let last: unknown;
      // Before there is somebody to ask, nothing tells that there is.
      while (performance.now() < deadline && starter.exitCode === null) {
        const ran = pidOne(starter) === undefined ? undefined : await run('systemctl', 'is-system-running', '--wait');
        if (/^(running|degraded)$/m.test(ran?.stdout ?? '')) return (ran?.stdout ?? '').trimEnd();
        last = ran;
        await new Promise((later) => setTimeout(later, askAgainMs));
      }
      throw new Error(`the node has not started: ${JSON.stringify(last)}\n${errors}`);
    },
    says: async (line, { times = 1 } = {}) => {
      const follower = spawn('nsenter', inside('journalctl', ['-f', '-n', 'all', '-o', 'cat']), { stdio: ['ignore', 'pipe', 'ignore'] });
      const lines = createInterface({ input: follower.stdout });
      try {
        await new Promise<void>((resolve, reject) => {
          let found = 0;
          lines.on('line', (text) => line.test(text) && (found += 1) === times && resolve());
          setTimeout(() => reject(new Error(`the journal never had ${line} ${times} times`)), saysWithinMs).unref();
          follower.once('exit', () => reject(new Error('the node is not there any more')));
        });
      } finally {
        lines.close();
        follower.stdout.destroy(); // nobody reads journalctl any more, so it ends
      }
    },
    journal: async (...units) => (await run('journalctl', '-o', 'cat', ...units.flatMap((unit) => ['-u', unit]))).stdout,
    powerOff: async () => {
      const pid = pidOne(starter);
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
      else starter.kill('SIGKILL');
      await gone;
      told.close();
      must('find', cgroup, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';');
      await lab.remove();
    },
  };
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Its first process is killed with the starter, and with it all others. */
const START = `
echo $$ >"$1/cgroup.procs"
exec nsenter --net="/run/netns/$2" unshare --mount --cgroup --pid --fork --kill-child --uts --ipc sh -ec "$3" sh "$4" "$5"`;

/**
 * As a container manager would. Of /proc/sys the network's part alone may be written, of /sys nothing: the rest is the machine's. Of
 * /dev nothing is shared but what is no device of anybody's. /run/netns is where a node has the networks of its pods.
 */
const ENTER = `
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir run/netns run/lab
mount --rbind /run/netns run/netns
mount --bind "$2" run/lab
pivot_root . .
umount -l .
exec env -i container=lab PATH=${PATH} chroot . /sbin/init`;

/** From the moment that it is there. */
function pidOne(starter: ChildProcess): number | undefined {
  try {
    const [pid] = readFileSync(`/proc/${starter.pid}/task/${starter.pid}/children`, 'utf8').split(' ').filter((word) => word !== '');
    return pid === undefined ? undefined : Number(pid);
  } catch {
    return undefined; // it has ended
  }
}

/** On older machines those of version 2 are beside those of version 1. */
function newCgroup(): string {
  const found = readFileSync('/proc/self/mounts', 'utf8').split('\n').map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
  if (found === undefined) throw new Error('no cgroup2 is mounted here');
  return mkdtempSync(join(found, 'imds-guard-'));
}

/** The stand-in of kubelet asks here, and is answered when pods have been looked at. */
async function listenAt(socket: string, started: () => Promise<void>): Promise<Server> {
  const server = createServer((_request, response) => void started().then(() => response.end(), (error: Error) => response.destroy(error)));
  server.listen(socket);
  await once(server, 'listening');
  server.unref();
  return server;
}

/** Resolves when it listens. */
async function serve(lab: Lab, file: string): Promise<void> {
  const server = lab.start(lab.node, process.execPath, [fileServer, file, String(PORT)], { env: { NODE_OPTIONS: '' } });
  await Promise.race([once(server.stdout!, 'data'), server.then(({ stderr }) => Promise.reject(new Error(`no file server: ${String(stderr)}`)))]);
}
