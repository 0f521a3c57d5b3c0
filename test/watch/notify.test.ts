// What is told to the service manager arrives, and a socket that it keeps is the same socket after our death.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { notify } from '../../agent/effects/notify.ts';

const store = fileURLToPath(new URL('../lab/descriptor-store.py', import.meta.url));
const urlOf = (path: string): string => JSON.stringify(new URL(`../../agent/${path}`, import.meta.url).href);

/** Opens a netlink socket and has it kept, or finds it kept; says by which address the kernel knows it. */
const daemon = `
  const { notify } = await import(${urlOf('effects/notify.ts')});
  const { inheritedDescriptors } = await import(${urlOf('core/watch/inherited-descriptors.ts')});
  const { NetlinkRequests } = await import(${urlOf('node-iptables/src/kernel/index.ts')});
  const kept = inheritedDescriptors(process.env, process.pid).get('guard');
  const socket = kept === undefined ? await NetlinkRequests.open(0) : await NetlinkRequests.adopt(kept);
  console.log(JSON.stringify({ event: 'found', kept: kept ?? null, port: socket.port }));
  await notify(process.env.NOTIFY_SOCKET, 'FDSTORE=1\\nFDNAME=guard\\nFDPOLL=0', socket.fd);
  await notify(process.env.NOTIFY_SOCKET, 'READY=1\\nSTATUS=blocked ✓');
  process.on('SIGTERM', async () => { await notify(process.env.NOTIFY_SOCKET, 'STOPPING=1'); process.exit(0); });
  process.on('SIGUSR1', () => console.log(JSON.stringify({ event: 'signalled' })));
  setInterval(() => {}, 1e9);`;

function startStore(t: Test, ...args: readonly string[]) {
  // Not the whole environment: NODE_OPTIONS would load the test runner's hooks.
  const child = spawn('python3', [store, ...args], { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  t.teardown(() => (child.kill('SIGTERM'), ended));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (event: string): Promise<Record<string, any>> => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`it ended before anything was ${event}`);
      const said = JSON.parse(value) as Record<string, any>;
      if (said['event'] === event) return said;
    }
  };
  return { child, ended, next };
}

for (const [where, socket] of [['a path', []], ['an abstract name', ['--socket', '@imds-guard-store']]] as const) {
  t.test(`a socket that is kept at ${where} outlives SIGKILL`, async (t) => {
    const { child, ended, next } = startStore(t, ...socket, process.execPath, '--input-type=module', '-e', daemon);
    const first = await next('started');
    t.same(first['descriptors'], []);
    const before = await next('found');
    t.equal(before['kept'], null);
    t.match(await next('stored'), { name: 'guard' });
    t.match(await next('told'), { text: 'READY=1\nSTATUS=blocked ✓' });
    process.kill(first['pid'], 'SIGKILL');
    t.match(await next('ended'), { pid: first['pid'], status: -9 });
    const second = await next('started');
    t.same(second['descriptors'], ['guard']);
    t.match(await next('found'), { kept: 3, port: before['port'] });
    t.match(await next('told'), { text: /^READY=1/ });
    child.kill('SIGUSR1');
    await next('signalled');
    child.kill('SIGTERM');
    t.match(await next('told'), { text: 'STOPPING=1' });
    t.match(await next('ended'), { pid: second['pid'], status: 0 });
    t.same(await ended, [0, null]);
  });
}

t.test('as often as it is asked to, and no more', async (t) => {
  const { ended } = startStore(t, '--restarts', '2', 'sh', '-c', 'exit 3');
  t.same(await ended, [3, null]);
});

t.test('nobody wants to know: nothing is done', async () => {
  await notify(undefined, 'READY=1');
  await notify('', 'READY=1');
});

t.test('somebody should be there and is not: whoever tells is told', async (t) => {
  await t.rejects(notify('/nowhere/notify', 'READY=1'), { name: 'KernelError', code: 'ENOENT' });
  await t.rejects(notify('@nobody', 'READY=1'), { name: 'KernelError', message: /^notify @nobody: / });
  for (const socket of ['vsock:2:1234', '/', '@', `/${'x'.repeat(200)}`]) await t.rejects(notify(socket, 'READY=1'), RangeError, socket);
});

t.test('a service manager that does not listen any more does not stop us', async (t) => {
  const program = 'import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("\\0deaf"); print(flush=True); sys.stdin.read()';
  const deaf = spawn('python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => deaf.stdin.end());
  await once(deaf.stdout, 'data');
  const told = async (): Promise<void> => {
    for (let times = 0; times < 10_000; times += 1) await notify('@deaf', 'WATCHDOG=1');
  };
  await t.rejects(told(), { code: 'EAGAIN' });
});
