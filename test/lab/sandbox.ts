// Runs a program where it can do no harm: in a mount and a network namespace of its own, with a private /run. Whatever it
// does to a firewall, a route or /run/netns is gone when it ends, and the machine's own is out of its reach. Root or not.
//
//   node test/lab/sandbox.ts node test/demo/demo.ts
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';

export type Sandbox =
  | { readonly is: 'sandbox'; readonly command: readonly string[] }
  | { readonly is: 'none'; readonly because: string };

/** Tries, because nothing else tells: user namespaces are off in some kernels, containers and security modules. */
export function findSandbox(): Sandbox {
  const tried = ways().map(way => {
    const command = [...way, 'sh', '-ec', enter, 'sh'];
    const result = spawnSync('unshare', [...command.slice(1), 'ip', 'netns', 'add', 'tried'], { encoding: 'utf8', env: environment() });
    return { command, status: result.status, because: result.error?.message ?? result.stderr.trim() };
  });
  const found = tried.find(({ status }) => status === 0);
  if (found !== undefined) return { is: 'sandbox', command: found.command };
  return { is: 'none', because: tried.map(({ command, because }) => `${command.slice(0, 2).join(' ')}: ${because}`).join('; ') };
}

/** Root inside a user namespace cannot load kernel modules, so real root stays root where it may. */
function ways(): readonly (readonly string[])[] {
  const mapped = ['unshare', '-rnm'];
  return process.getuid?.() === 0 ? [['unshare', '-nm'], mapped] : [mapped];
}

const enter = 'mount -t tmpfs -o mode=755 tmpfs /run; ip link set lo up; exec "$@"';

/** Children find the project's node first, and the tools of /usr/sbin even where a user's PATH leaves them out. */
export function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
}

export function spawnInside(sandbox: Sandbox, file: string, args: readonly string[], stdio: StdioOptions): ChildProcess {
  const [first, ...rest] = [...(sandbox.is === 'sandbox' ? sandbox.command : []), file, ...args];
  return spawn(first ?? file, rest, { stdio, env: environment() });
}

if (import.meta.main) {
  const [file, ...args] = process.argv.slice(2);
  const sandbox = findSandbox();
  if (file === undefined || sandbox.is === 'none') {
    console.error(sandbox.is === 'none' ? `no namespaces to run in: ${sandbox.because}` : 'usage: sandbox.ts PROGRAM [ARGUMENT…]');
    process.exit(1);
  }
  // The terminal sends ^C to the whole group; the child clears up, and its end is ours.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  const [code] = await once(spawnInside(sandbox, file, args, 'inherit'), 'close');
  process.exit(typeof code === 'number' ? code : 1);
}
