// The instance metadata service, as far as a pod can tell: tokens with a TTL, and a GET with or without one.
//
//   PUT /latest/api/token, X-aws-ec2-metadata-token-ttl-seconds: 1..21600   -> 200 token, else 400
//   GET /latest/meta-data/…  without a token  -> 200, or 401 where version 1 is off; with a wrong token -> 401
//
// The hop limit is not here: it is a TTL on the packets of the PUT's answer, set by rules in this namespace (hop-limit.ts).
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as TcpServer, Socket } from 'node:net';
import { misbehave } from './misbehaviour.ts';
import type { Behaviour, Place, Reply, Seen, ServerOptions, ServerOrder, Service } from './protocol.ts';

// `import … from 'node:http'` loads undici too: 30 ms and 13 MiB that nobody here needs (nodejs/node#59686).
const http = process.getBuiltinModule('node:http');
const net = process.getBuiltinModule('node:net');
const { randomBytes } = process.getBuiltinModule('node:crypto');

const longestTokenSeconds = 21_600;
const seenAtMost = 1000;

const seen: Seen[] = [];
const tokens = new Map<string, number>();
const listeners: { readonly server: TcpServer; readonly sockets: Set<Socket> }[] = [];
/** How clients are served, by their address; the empty one stands for everybody else. */
const services = new Map<string, Service>();

process.on('message', (order: ServerOrder) => {
  obey(order).then(
    said => say({ id: order.id, seen: said }),
    (error: unknown) => say({ id: order.id, failed: String(error) }),
  );
});
process.on('disconnect', () => process.exit());

function say(reply: Reply): void {
  process.send?.(reply);
}

async function obey(order: ServerOrder): Promise<Seen[]> {
  switch (order.do) {
    case 'listen':
      services.set('', order.options.service);
      for (const address of order.options.addresses) await listenOn(serverOf(order.options), { address, port: order.options.port });
      return [];
    case 'forward':
      await listenOn(net.createServer(socket => passOn(socket, order.to)), order.from);
      return [];
    case 'close':
      await Promise.all(listeners.splice(0).map(close));
      return [];
    case 'serve':
      for (const address of order.to) services.set(address, { ...serviceFor(''), ...order.service });
      return [];
    case 'seen':
      return seen.splice(0);
  }
}

function serviceFor(address: string): Service {
  const found = services.get(address) ?? services.get('');
  if (found === undefined) throw new Error('nobody said how to serve');
  return found;
}

function serverOf(options: ServerOptions): Server {
  const server = http.createServer((request, response) => {
    const address = request.socket.remoteAddress ?? '';
    const answer = answerTo(request, options, Date.now());
    if (seen.length < seenAtMost) {
      seen.push({
        method: request.method ?? '',
        path: request.url ?? '',
        from: address,
        status: 'status' in answer ? answer.status : 0,
        userAgent: request.headers['user-agent'] ?? '',
        ttlSeconds: String(request.headers['x-aws-ec2-metadata-token-ttl-seconds'] ?? ''),
        withToken: request.headers['x-aws-ec2-metadata-token'] !== undefined,
      });
    }
    if ('status' in answer) send(response, answer);
    else misbehave(request.socket, answer.instead);
  });
  server.prependListener('connection', (socket: Socket) => {
    if (serviceFor(socket.remoteAddress ?? '').connection === 'reset') socket.resetAndDestroy();
  });
  server.keepAliveTimeout = 60_000;
  return server;
}

function listenOn(server: TcpServer, { address, port }: Place): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {}); // clients go when they like
  });
  listeners.push({ server, sockets });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
}

function close({ server, sockets }: (typeof listeners)[number]): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve());
    for (const socket of sockets) socket.resetAndDestroy();
  });
}

function passOn(socket: Socket, { address, port }: Place): void {
  const onward = net.connect({ host: address, port });
  onward.on('error', () => socket.destroy());
  socket.on('error', () => onward.destroy());
  socket.pipe(onward).pipe(socket);
}

interface Answered {
  readonly status: number;
  readonly body: string;
  readonly headers?: Record<string, string>;
}

/** No answer of IMDS at all. */
interface Instead {
  readonly instead: Exclude<Behaviour, 'ok' | number>;
}

function answerTo(request: IncomingMessage, options: ServerOptions, now: number): Answered | Instead {
  const path = request.url ?? '';
  const service = serviceFor(request.socket.remoteAddress ?? '');
  if (path === '/latest/api/token') return request.method === 'PUT' ? behaved(service.token, () => newToken(request, now)) : nothing(405);
  if (request.method !== 'GET') return nothing(405);
  return behaved(service.metadata, () => {
    const token = request.headers['x-aws-ec2-metadata-token'];
    if (token === undefined && !service.version1) return nothing(401);
    if (token !== undefined && !((tokens.get(String(token)) ?? 0) > now)) return nothing(401);
    return metadata(path, options);
  });
}

function behaved(behaviour: Behaviour, ok: () => Answered): Answered | Instead {
  if (behaviour === 'ok') return ok();
  return typeof behaviour === 'number' ? nothing(behaviour) : { instead: behaviour };
}

function newToken(request: IncomingMessage, now: number): Answered {
  // The real service refuses a PUT that came through a proxy.
  if (request.headers['x-forwarded-for'] !== undefined) return nothing(403);
  const words = String(request.headers['x-aws-ec2-metadata-token-ttl-seconds'] ?? '');
  const seconds = /^\d+$/.test(words) ? Number(words) : 0;
  if (seconds < 1 || seconds > longestTokenSeconds) return nothing(400);
  const token = randomBytes(42).toString('base64');
  tokens.set(token, now + seconds * 1000);
  return { status: 200, body: token, headers: { 'X-aws-ec2-metadata-token-ttl-seconds': String(seconds) } };
}

function metadata(path: string, options: ServerOptions): Answered {
  switch (path.replace(/^\/[^/]+\//, '/latest/')) {
    case '/latest/meta-data':
    case '/latest/meta-data/':
      return { status: 200, body: 'instance-id\nplacement/' };
    case '/latest/meta-data/instance-id':
      return { status: 200, body: options.instanceId };
    case '/latest/meta-data/placement/region':
      return { status: 200, body: 'eu-west-1' };
    default:
      return nothing(404);
  }
}

function nothing(status: number): Answered {
  return { status, body: '' };
}

function send(response: ServerResponse, answer: Answered): void {
  response.writeHead(answer.status, {
    Server: 'EC2ws',
    'Content-Type': 'text/plain',
    'Content-Length': Buffer.byteLength(answer.body),
    ...answer.headers,
  });
  response.end(answer.body);
}
