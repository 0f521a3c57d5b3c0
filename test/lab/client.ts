// The resident of a pod (or of the node): does the requests it is told to do, from inside its namespace.
import type { Agent, IncomingMessage, RequestOptions as HttpOptions } from 'node:http';
import type { Socket } from 'node:net';
import type { Answer, ClientOrder, Endpoint, Reply, RequestOptions } from './protocol.ts';

const http = process.getBuiltinModule('node:http'); // not imported: see imds-server.ts
const { spawnSync } = process.getBuiltinModule('node:child_process');

const defaultTimeoutMs = 2000;
const lives = new Map<number, Live>();

/** One kept-alive connection; `socket` is the one that the first request opened. */
interface Live {
  readonly agent: Agent;
  readonly options: RequestOptions;
  readonly socket: Socket | undefined;
}

process.on('message', (order: ClientOrder) => {
  obey(order).then(
    answer => say({ id: order.id, answer }),
    (error: unknown) => say({ id: order.id, failed: String(error) }),
  );
});

// The channel closes when the test process ends, however it ends; after a SIGKILL nobody else is left to clear up.
process.on('disconnect', () => {
  const orphaned = process.env['LAB_NAMESPACES']?.split(' ');
  if (orphaned !== undefined) {
    for (const name of orphaned) endAll(spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout);
    const input = orphaned.map(name => `netns del ${name}\n`).join('');
    spawnSync('ip', ['-force', '-batch', '-'], { input, stdio: ['pipe', 'ignore', 'ignore'] });
  }
  process.exit();
});

/** Everything that runs in a namespace of the lab was started by the lab: daemons under test outlive a SIGKILL too. */
function endAll(pids: string): void {
  for (const pid of pids.split('\n').filter(line => line !== '').map(Number)) {
    if (pid === process.pid) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself, which is what was wanted.
    }
  }
}

function say(reply: Reply): void {
  process.send?.(reply);
}

async function obey(order: ClientOrder): Promise<Answer> {
  switch (order.do) {
    case 'request':
      return await request(order.options);
    case 'open-live':
      return await openLive(order.live, order.options);
    case 'request-live':
      return await requestLive(order.live, order.timeoutMs);
    case 'close-live':
      lives.get(order.live)?.agent.destroy();
      lives.delete(order.live);
      return { fate: 'refused', code: 'closed' };
  }
}

async function request(options: RequestOptions): Promise<Answer> {
  const deadline = performance.now() + (options.timeoutMs ?? defaultTimeoutMs);
  const headers: Record<string, string> = {};
  if (options.version === 2) {
    const token = await exchangeOnPort(deadline, {
      ...httpOptions(options),
      agent: false,
      method: 'PUT',
      path: '/latest/api/token',
      headers: { 'X-aws-ec2-metadata-token-ttl-seconds': '60' },
    });
    const { answer } = token;
    if (answer.fate === 'timeout' && answer.during === 'answer') return { fate: 'timeout', during: 'token' };
    if (answer.fate !== 'reached' || answer.status !== 200) return answer;
    headers['X-aws-ec2-metadata-token'] = answer.body;
  }
  return (await exchangeOnPort(deadline, { ...httpOptions(options), agent: false, headers })).answer;
}

/** A port that was asked for may still be held by the connection before: asks again until it is not. */
async function exchangeOnPort(deadline: number, options: HttpOptions): Promise<Exchanged> {
  for (;;) {
    const exchanged = await exchange(deadline, options);
    const { answer } = exchanged;
    const isHeld = options.localPort !== undefined && answer.fate === 'refused' && (answer.code === 'EADDRNOTAVAIL' || answer.code === 'EADDRINUSE');
    if (!isHeld || performance.now() >= deadline) return exchanged;
    await new Promise(later => setTimeout(later, 20));
  }
}

async function openLive(id: number, options: RequestOptions): Promise<Answer> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const deadline = performance.now() + (options.timeoutMs ?? defaultTimeoutMs);
  const { answer, socket } = await exchangeOnPort(deadline, { ...httpOptions(options), agent });
  lives.set(id, { agent, options, socket });
  return answer;
}

async function requestLive(id: number, timeoutMs: number): Promise<Answer> {
  const live = lives.get(id);
  // A new connection would answer another question than the one that was asked.
  if (live?.socket === undefined || live.socket.destroyed) return { fate: 'refused', code: 'connection-lost' };
  const deadline = performance.now() + timeoutMs;
  const { answer, socket } = await exchange(deadline, { ...httpOptions(live.options), agent: live.agent });
  return socket === live.socket ? answer : { fate: 'refused', code: 'connection-lost' };
}

function httpOptions(options: RequestOptions): HttpOptions {
  return {
    host: options.family === 6 ? 'fd00:ec2::254' : '169.254.169.254',
    port: 80,
    path: options.path ?? '/latest/meta-data/instance-id',
    ...(options.localPort === undefined ? {} : { localPort: options.localPort }),
  };
}

interface Exchanged {
  readonly answer: Answer;
  readonly socket: Socket | undefined;
}

function exchange(deadline: number, options: HttpOptions): Promise<Exchanged> {
  return new Promise(resolve => {
    let socket: Socket | undefined;
    let connected = false;
    const asked = http.request(options);
    const settle = (answer: Answer): void => {
      clearTimeout(timer);
      resolve({ answer, socket });
      if (answer.fate !== 'reached') asked.destroy();
    };
    const timer = setTimeout(
      () => settle({ fate: 'timeout', during: connected ? 'answer' : 'connect' }),
      Math.max(0, deadline - performance.now()),
    );
    asked.on('socket', given => {
      socket = given;
      connected = !given.connecting;
      given.once('connect', () => (connected = true));
    });
    asked.on('error', (error: NodeJS.ErrnoException) => settle(failure(error)));
    asked.on('response', response => {
      const from = endpoint(socket);
      text(response).then(
        body => settle({ fate: 'reached', status: response.statusCode ?? 0, body, from }),
        (error: NodeJS.ErrnoException) => settle(failure(error)),
      );
    });
    asked.end();
  });
}

function failure(error: NodeJS.ErrnoException): Answer {
  // The kernel's own patience (ETIMEDOUT) can end before ours; for the pod it is the same silence.
  if (error.code === 'ETIMEDOUT') return { fate: 'timeout', during: 'connect' };
  return { fate: 'refused', code: error.code ?? error.message };
}

function endpoint(socket: Socket | undefined): Endpoint {
  return { address: socket?.localAddress ?? '', port: socket?.localPort ?? 0 };
}

async function text(response: IncomingMessage): Promise<string> {
  let body = '';
  response.setEncoding('utf8');
  for await (const chunk of response) body += String(chunk);
  return body;
}
