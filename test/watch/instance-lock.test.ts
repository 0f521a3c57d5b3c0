// One daemon a node: in a network namespace of our own, so that a daemon on this machine is neither met nor disturbed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { type Lock, takeLock } from '../../agent/effects/instance-lock.ts';

const daemon = `
  const { takeLock } = await import(${JSON.stringify(new URL('../../agent/effects/instance-lock.ts', import.meta.url).href)});
  setInterval(() => {}, 1e9);
  for (;;) {
    const lock = await takeLock();
    console.log(JSON.stringify(lock));
    if (lock.held) break;
    await lock.whenFree;
  }`;
/** Listens on the name and does nothing with it. */
const squat = `require('node:net').createServer().listen('\\0imds-guard', () => console.log('{}'))`;

const onlyOneUser = /^\s*\d+\s+\d+\s+1$/m.test(readFileSync('/proc/self/uid_map', 'utf8')) && 'only one user in this user namespace';

interface Living {
  readonly child: ChildProcess;
  /** What it says next. */
  next(): Promise<Record<string, any>>;
}

function start(t: Test, program: string, before: readonly string[] = [], uid?: number): Living {
  const [file = '', ...args] = [...before, process.execPath, '--input-type', program === daemon ? 'module' : 'commonjs', '-e', program];
  // Not the whole environment: NODE_OPTIONS would load the test runner's hooks.
  const child = spawn(file, args, { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'inherit'], ...(uid === undefined ? {} : { uid }) });
  const gone = once(child, 'exit');
  t.teardown(() => (child.kill('SIGKILL'), gone));
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return { child, next: async () => JSON.parse((await lines.next()).value ?? '{"ended":true}') as Record<string, any> };
}

async function end({ child }: Living): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** A dying process closes one socket after another: for a moment its name may still be there, after its connections. */
async function notOf(dead: Living | number, { next }: Living): Promise<Record<string, any>> {
  const pid = typeof dead === 'number' ? dead : dead.child.pid;
  for (;;) {
    const said = await next();
    if (said['leader']?.pid !== pid) return said;
  }
}

const letGo = async (lock: Lock): Promise<void> => (lock.held ? lock.release() : lock.leave());

t.test('the second daemon stands by, knows the first, and takes over at its death', async (t) => {
  const first = start(t, daemon);
  t.same(await first.next(), { held: true });
  const second = start(t, daemon);
  t.match(await second.next(), { held: false, squatter: false, leader: { pid: first.child.pid, uid: 0 } });
  await end(first);
  t.same(await notOf(first, second), { held: true });
});

t.test('of many who wait, one wins, and the others wait for that one', async (t) => {
  const first = start(t, daemon);
  await first.next();
  const others = Array.from({ length: 4 }, () => start(t, daemon));
  for (const other of others) t.match(await other.next(), { held: false, leader: { pid: first.child.pid } });
  await end(first);
  const said = await Promise.all(others.map((other) => notOf(first, other)));
  const winner = others[said.findIndex(({ held }) => held === true)];
  t.equal(said.filter(({ held }) => held === true).length, 1);
  for (const { held, leader } of said) if (held !== true) t.equal(leader.pid, winner?.child.pid);
});

t.test('who lets go leaves nothing behind, and can take it again', async (t) => {
  const lock = await takeLock();
  t.equal(lock.held, true);
  t.match(readFileSync('/proc/self/net/unix', 'utf8'), /@imds-guard$/m);
  const other = start(t, daemon);
  t.match(await other.next(), { held: false, leader: { pid: process.pid } });
  await letGo(lock);
  t.same(await notOf(process.pid, other), { held: true });
  const again = await takeLock();
  t.match(again, { held: false, squatter: false });
  await end(other);
  if (!again.held) await again.whenFree;
});

t.test('a daemon in another network namespace is of another node', async (t) => {
  const lock = await takeLock();
  t.teardown(() => letGo(lock));
  t.same(await start(t, daemon, ['unshare', '-n']).next(), { held: true });
});

t.test('nobody stands by for a process that may not write rules', async (t) => {
  await t.test('another user', { skip: onlyOneUser }, async (t) => {
    const squatter = start(t, squat, [], 65534);
    await squatter.next();
    const lock = await takeLock();
    t.match(lock, { held: false, squatter: true, because: 'uid 65534 holds the name', leader: { pid: squatter.child.pid, uid: 65534 } });
    await end(squatter);
    if (!lock.held) await lock.whenFree;
    const free = await takeLock();
    t.equal(free.held, true);
    await letGo(free);
  });

  await t.test('root in a container without CAP_NET_ADMIN', async (t) => {
    const squatter = start(t, squat, ['setpriv', '--bounding-set=-net_admin']);
    await squatter.next();
    const lock = await takeLock();
    t.match(lock, { held: false, squatter: true, because: /^process \d+ holds the name, and has no CAP_NET_ADMIN$/ });
    await letGo(lock);
    await end(squatter);
  });

  await t.test('who has every capability in a user namespace of its own', async (t) => {
    const squatter = start(t, squat, ['unshare', '-Ur']);
    await squatter.next();
    const lock = await takeLock();
    t.match(lock, { held: false, squatter: true, because: /from another user namespace$/ });
    await letGo(lock);
    await end(squatter);
  });

  await t.test('who binds the name and never listens', async (t) => {
    const squatter = spawn('python3', ['-c', 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("\\0imds-guard"); print(flush=True); import sys; sys.stdin.read()'], { stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(() => squatter.kill('SIGKILL'));
    await once(squatter.stdout, 'data');
    t.match(await takeLock(), { held: false, squatter: true, because: /somebody who does not listen \(ECONNREFUSED\)/, whenFree: undefined });
    squatter.stdin.end();
    await once(squatter, 'exit');
  });
});

t.test('another user cannot fill the daemon with connections', { skip: onlyOneUser }, async (t) => {
  const lock = await takeLock();
  t.teardown(() => letGo(lock));
  const shut = await new Promise<string>((tell) => {
    const stranger = spawn(process.execPath, ['-e', `require('node:net').connect('\\0imds-guard').on('end', () => console.log('shut')).resume()`], { env: {}, uid: 65534, stdio: ['ignore', 'pipe', 'inherit'] });
    stranger.stdout.once('data', (data) => tell(String(data)));
  });
  t.equal(shut, 'shut\n');
  const own = connect('\0imds-guard');
  await once(own, 'connect');
  t.equal(own.closed, false);
  own.destroy();
});
