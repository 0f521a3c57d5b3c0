import { once } from 'node:events';
import { type IncomingHttpHeaders, request } from 'node:http';
import { type Socket, connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import t, { type Test } from 'tap';
import { UsageError } from '../../agent/config.ts';
import { metricsText } from '../../agent/core/metrics-text.ts';
import type { WatchStatus } from '../../agent/core/watch-status.ts';
import { type StatusServer, type StatusServerOptions, startStatusServer } from '../../agent/effects/status-server.ts';
import { statusOf } from './watch-status.ts';

interface World {
  status: WatchStatus;
  alive: { ok: boolean; because: string };
  /** Stands still unless a test moves it on. */
  nowMs: number;
  /** How often the status was asked for. */
  reads: number;
}

async function started(t: Test, options: Partial<StatusServerOptions> = {}): Promise<StatusServer & { readonly port: number; readonly world: World }> {
  const world: World = { status: statusOf(), alive: { ok: true, because: '' }, nowMs: 0, reads: 0 };
  const status = (): WatchStatus => ((world.reads += 1), world.status);
  const server = await startStatusServer({ address: '127.0.0.1', port: 0, now: () => world.nowMs, ...options }, { status, alive: () => world.alive });
  t.teardown(() => server.close());
  return { ...server, port: server.ports[0]!, world };
}

interface Answer {
  readonly code: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function ask(port: number, path: string, { method = 'GET', host = '127.0.0.1', headers = {} }: { method?: string; host?: string; headers?: Record<string, string> } = {}): Promise<Answer> {
  const asked = request({ host, port, path, method, headers, agent: false }).end();
  const [response] = await once(asked, 'response');
  let body = '';
  for await (const part of response.setEncoding('utf8')) body += part;
  return { code: response.statusCode, headers: response.headers, body };
}

async function connected(t: Test, port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect(port, host);
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Reads what comes until the other side ends it. */
async function toItsEnd(socket: Socket): Promise<string> {
  let all = '';
  socket.setEncoding('utf8').on('data', (part: string) => (all += part));
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return all;
}

t.test('what a client can ask', async (t) => {
  const { port, world } = await started(t);
  t.match(await ask(port, '/healthz'), { code: 200, body: 'ok\n' });
  t.match(await ask(port, '/readyz'), { code: 200, body: 'ok\n' });
  t.match(await ask(port, '/metrics'), { code: 200, body: metricsText(world.status), headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } });
  const status = await ask(port, '/status?pretty');
  t.match(status, { code: 200, headers: { 'content-type': 'application/json', 'cache-control': 'no-store' } });
  t.same(JSON.parse(status.body), world.status);
});

t.test('a status is read and written once a second, whoever asks for it how often', async (t) => {
  const { port, world } = await started(t);
  for (let at = 0; at < 300; at += 1) {
    world.nowMs = at * 25;
    t.match(await ask(port, ['/metrics', '/status', '/readyz'][at % 3]!), { code: 200 });
  }
  t.equal(world.reads, 8, 'in seven seconds and a half');
  world.status = statusOf({ version: 'later' });
  t.match(JSON.parse((await ask(port, '/status')).body), { version: '1.2.3' });
  world.nowMs += 1000;
  t.match(JSON.parse((await ask(port, '/status')).body), { version: 'later' });
  t.match((await ask(port, '/metrics')).body, 'version="later"', 'both tell the same moment');
});

t.test('fifty answers a second; then those who ask are sent away, but for probes, and until the second is over', async (t) => {
  const { port, world } = await started(t, { metricsAddress: '127.0.0.2' });
  const asked = async (path: string, host?: string): Promise<number | string> => ask(port, path, { ...(host === undefined ? {} : { host }) }).then(({ code }) => code, (error) => error.code);
  const codes: (number | string)[] = [];
  for (let at = 0; at < 60; at += 1) codes.push(await asked(['/status', '/metrics', '/nowhere'][at % 3]!));
  t.same(codes.slice(0, 50).filter((code) => code !== 200 && code !== 404), []);
  t.same(codes.slice(50), Array(10).fill('ECONNRESET'));
  for (const path of ['/healthz', '/readyz']) t.equal(await asked(path), 200, path);
  t.equal(await asked('/metrics', '127.0.0.2'), 200, 'strangers have a count of their own');
  world.nowMs += 999;
  t.equal(await asked('/metrics'), 'ECONNRESET');
  world.nowMs += 1;
  t.equal(await asked('/metrics'), 200);
});

t.test('two hundred requests at once on a connection: one is answered, and that is its end', async (t) => {
  const { port, world } = await started(t);
  for (const [path, body] of [['/metrics', metricsText(world.status)], ['/healthz', 'ok\n']] as const) {
    const socket = await connected(t, port);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(200));
    const all = await toItsEnd(socket);
    t.equal(all.match(/HTTP\/1\.1 /g)?.length, 1);
    t.match(all, /^HTTP\/1\.1 200 OK\r\n[^]*\r\nConnection: close\r\n/);
    t.equal(all.slice(all.indexOf('\r\n\r\n') + 4), body);
  }
  t.equal(world.reads, 1);
});

t.test('a request that comes byte by byte', async (t) => {
  const { port } = await started(t);
  const socket = await connected(t, port);
  socket.setNoDelay();
  for (const byte of 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n') {
    socket.write(byte);
    await new Promise(setImmediate);
  }
  t.match(await toItsEnd(socket), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok\n$/);
});

t.test('an old client, and one that says no more once it has asked', async (t) => {
  const { port } = await started(t);
  for (const request of ['GET /healthz HTTP/1.0\r\n\r\n', 'GET /healthz HTTP/1.1\r\nhOST:x\r\n\r\n']) {
    const socket = await connected(t, port);
    socket.end(request);
    t.match(await toItsEnd(socket), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok\n$/);
  }
});

t.test('alive is not ready: health is about the daemon, readiness about a proof', async (t) => {
  const { port, world } = await started(t);
  world.status = statusOf({ provedBlocked: false, answer: 'open', reason: 'PacketPasses', message: 'a packet passes' });
  t.match(await ask(port, '/healthz'), { code: 200 });
  t.match(await ask(port, '/readyz'), { code: 503, body: 'open PacketPasses a packet passes\n' });
  world.nowMs += 1000;
  world.status = statusOf({ provedBlocked: true, answer: 'unknown' });
  world.alive = { ok: false, because: 'no look for 31 minutes' };
  t.match(await ask(port, '/readyz'), { code: 200 });
  t.match(await ask(port, '/healthz'), { code: 503, body: 'no look for 31 minutes\n' });
});

t.test('HEAD is GET without a body; nothing else is answered', async (t) => {
  const { port } = await started(t);
  const got = await ask(port, '/metrics');
  t.match(await ask(port, '/metrics', { method: 'HEAD' }), { code: 200, body: '', headers: { 'content-length': got.headers['content-length'] } });
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH']) t.match(await ask(port, '/metrics', { method }), { code: 405, headers: { allow: 'GET, HEAD' } }, method);
  for (const path of ['/', '/metrics/', '/Metrics', '//metrics', '/../status', '/__proto__', '/constructor', '/%73tatus']) t.match((await ask(port, path)).code, 404, path);
  t.match(await ask(port, '/status', { headers: { Host: 'evil.example:80', 'X-Forwarded-For': '1.2.3.4' } }), { code: 200 }, 'a Host decides nothing');
});

t.test('a status with a number that JSON has no word for, and one that cannot be told', async (t) => {
  const { port, world } = await started(t);
  world.status = { ...statusOf(), report: { big: 1n } } as unknown as WatchStatus;
  t.match(JSON.parse((await ask(port, '/status')).body), { report: { big: 1 } });
  world.nowMs += 1000;
  Object.defineProperty(world, 'status', { get: () => { throw new Error('no status'); } });
  t.match(await ask(port, '/status'), { code: 500, body: 'a bug: no status\n' });
  t.match(await ask(port, '/healthz'), { code: 200 });
});

t.test('metrics for others: at a second address, and nothing but them', async (t) => {
  const { ports, port } = await started(t, { metricsAddress: '127.0.0.2' });
  t.same(ports, [port, port], 'two listeners, one port');
  t.match(await ask(port, '/metrics', { host: '127.0.0.2' }), { code: 200 });
  for (const path of ['/status', '/healthz', '/readyz', '/']) t.match(await ask(port, path, { host: '127.0.0.2' }), { code: 404, body: 'there is /metrics\n' }, path);
  t.match(await ask(port, '/status'), { code: 200 });
});

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'));
for (const [metricsAddress, foreign, skip] of [['0.0.0.0', '127.0.0.2', false], ['::', '127.0.0.2', false], ['0:0::0', '127.0.0.2', false], ['::', '::1', hasIpv6 ? false : 'no ::1 on this machine']] as const) {
  t.test(`metrics at ${metricsAddress}: one listener, and who comes by ${foreign} sees nothing but them`, { skip }, async (t) => {
    const { ports, port } = await started(t, { metricsAddress });
    t.equal(ports.length, 1);
    t.match(await ask(port, '/metrics', { host: foreign }), { code: 200 });
    t.match(await ask(port, '/status', { host: foreign }), { code: 404 });
    t.match(await ask(port, '/status', { host: foreign, headers: { Host: `127.0.0.1:${port}` } }), { code: 404 }, 'whatever it calls us');
    t.match(await ask(port, '/status'), { code: 200 });
  });
}

t.test('all endpoints at every address need no second listener', async (t) => {
  for (const address of ['0.0.0.0', '::']) {
    const { ports, port } = await started(t, { address, metricsAddress: '127.0.0.2' });
    t.equal(ports.length, 1);
    t.match(await ask(port, '/status', { host: '127.0.0.2' }), { code: 200 });
  }
});

t.test('a client that sends half a request and stalls: others are answered, and it is sent away', async (t) => {
  const { port } = await started(t, { patienceMs: 1_000 });
  const halves = ['', 'GET', 'GET /status HTTP/1.1\r\nHost: x\r\nX-Slow: ', 'GET /status HTTP/1.1\r\nContent-Length: 9\r\nHost: x\r\n\r\nabc'].map(async (half) => {
    const socket = await connected(t, port);
    socket.write(half);
    return toItsEnd(socket);
  });
  t.match(await ask(port, '/healthz'), { code: 200 });
  for (const half of halves) t.match(await half, /^(HTTP\/1\.1 (408|200) |$)/, 'it was ended');
  t.match(await ask(port, '/healthz'), { code: 200 });
});

/** More than the kernel takes from a writer and keeps for a reader: 4 and 6 MiB. */
const ANSWER_BYTES = 16 * 2 ** 20;
t.test('a client that takes its answer in sips is sent away', async (t) => {
  const { port, world } = await started(t, { patienceMs: 1_000 });
  world.status = statusOf({ message: 'x'.repeat(ANSWER_BYTES) });
  const socket = await connected(t, port);
  socket.write('GET /status HTTP/1.1\r\nHost: x\r\n\r\n');
  let read = 0;
  let sips = 0;
  socket.on('data', (part) => {
    read += part.length;
    // A little at a time, beyond the patience of the server; then what is left on the way.
    if ((sips += 1) > 30) return;
    socket.pause();
    setTimeout(() => socket.resume(), 50);
  });
  const cut = new Promise((resolve) => socket.once('close', resolve));
  await once(socket, 'data');
  t.match(await ask(port, '/healthz'), { code: 200 });
  await cut;
  t.ok(read < ANSWER_BYTES, `${read} bytes, and not all of them`);
});

t.test('a client that talks nonsense is refused, and the next one answered', async (t) => {
  const { port } = await started(t);
  for (const [nonsense, code] of [['\x16\x03\x01\x02\x00\x01', 400], ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400], ['GET  HTTP/1.1\r\nHost: x\r\n\r\n', 400], ['x'.repeat(20_000), 400], [`GET /${'x'.repeat(9000)}`, 431], ['GET\r\n\r\n', 400], [`GET /healthz HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(9000)}\r\n\r\n`, 431], ['GET /healthz HTTP/1.1\r\n\r\n', 400]] as const) {
    const socket = await connected(t, port);
    socket.write(nonsense);
    t.match(await toItsEnd(socket), new RegExp(`^HTTP/1.1 ${code} `));
  }
  const rude = await connected(t, port);
  rude.write('GET /status HTTP/1.1\r\nHost: x\r\n\r\n');
  rude.resetAndDestroy();
  t.match(await ask(port, '/healthz'), { code: 200 });
});

t.test('a thousand requests, one after another', async (t) => {
  const { port } = await started(t);
  const codes = new Map<number, number>();
  for (let at = 0; at < 1000; at += 1) {
    const { code } = await ask(port, '/healthz');
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  t.same([...codes], [[200, 1000]]);
});

t.test('sixty-four connections at a time: who has been there longest makes room for one more', async (t) => {
  const { port } = await started(t);
  const silent: Socket[] = [];
  for (let at = 0; at < 64; at += 1) silent.push(await connected(t, port));
  const [first, second] = [toItsEnd(silent[0]!), toItsEnd(silent[1]!)];
  t.match(await ask(port, '/healthz'), { code: 200 }, 'a probe gets through');
  t.equal(await first, '', 'the first was sent away');
  silent[1]!.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  t.match(await second, /^HTTP\/1\.1 200 /, 'and only the first');
});

t.test('those of strangers leave ours alone', async (t) => {
  const { port } = await started(t, { metricsAddress: '0.0.0.0' });
  const [ours] = await Promise.all([connected(t, port), ...Array.from({ length: 80 }, () => connected(t, port, '127.0.0.2'))]);
  t.match(await ask(port, '/metrics', { host: '127.0.0.2' }), { code: 200 });
  ours.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  t.match(await toItsEnd(ours), /^HTTP\/1\.1 200 /);
});

t.test('the end does not wait for clients', async (t) => {
  const { port, close } = await started(t, { metricsAddress: '127.0.0.2' });
  const open = await Promise.all(['', 'GET /sta', 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'].flatMap((text) => ['127.0.0.1', '127.0.0.2'].map(async (host) => {
    const socket = await connected(t, port, host);
    socket.write(text);
    return socket;
  })));
  const ends = open.map(toItsEnd);
  await close();
  await Promise.all(ends);
  await t.rejects(ask(port, '/healthz'), { code: 'ECONNREFUSED' });
});

t.test('a port in use: which one, and what to do', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  t.teardown(() => void holder.close());
  const { port } = holder.address() as { port: number };
  const starting = startStatusServer({ address: '127.0.0.1', port }, { status: statusOf, alive: () => ({ ok: true, because: '' }) });
  await t.rejects(starting, { name: 'UsageError', message: new RegExp(`^port ${port} at 127\\.0\\.0\\.1 is in use.*ss -Hltnp 'sport = ${port}'.*--port`), cause: { code: 'EADDRINUSE' } });
  await t.rejects(starting, UsageError);
});

t.test('where only the second listener fails, the first is not left behind', async (t) => {
  const holder = createServer().listen(0, '127.0.0.2');
  await once(holder, 'listening');
  t.teardown(() => void holder.close());
  const { port } = holder.address() as { port: number };
  await t.rejects(startStatusServer({ address: '127.0.0.1', port, metricsAddress: '127.0.0.2' }, { status: statusOf, alive: () => ({ ok: true, because: '' }) }), { message: new RegExp(`^port ${port} at 127\\.0\\.0\\.2 is in use`) });
  await t.rejects(ask(port, '/healthz'), { code: 'ECONNREFUSED' });
});

t.test('an address that is not of this node', async (t) => {
  await t.rejects(startStatusServer({ address: '192.0.2.1', port: 0 }, { status: statusOf, alive: () => ({ ok: true, because: '' }) }), { message: /192\.0\.2\.1: this node does not have that address/ });
});
