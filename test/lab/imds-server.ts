// The instance metadata service, as far as a pod can tell: tokens with a TTL, and a GET with or without one.
//
//   PUT /latest/api/token, X-aws-ec2-metadata-token-ttl-seconds: 1..21600   -> 200 token, else 400
//   GET /latest/meta-data/…  without a token  -> 200, or 401 where version 1 is off; with a wrong token -> 401
//
// The hop limit is not here: it is a TTL on the packets of the PUT's answer, set by rules in this namespace (wiring.ts).
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Reply, Seen, ServerOptions, ServerOrder } from './protocol.ts';

// `import … from 'node:http'` loads undici too: 30 ms and 13 MiB that nobody here needs (nodejs/node#59686).
const http = process.getBuiltinModule('node:http');
const { randomBytes } = process.getBuiltinModule('node:crypto');

const longestTokenSeconds = 21_600;
const seenAtMost = 1000;

const seen: Seen[] = [];
const tokens = new Map<string, number>();

process.on('message', (order: ServerOrder) => {
  switch (order.do) {
    case 'listen':
      listen(order.options).then(
        () => say({ id: order.id, seen: [] }),
        (error: unknown) => say({ id: order.id, failed: String(error) }),
      );
      return;
    case 'seen':
      say({ id: order.id, seen: seen.splice(0) });
      return;
  }
});
process.on('disconnect', () => process.exit());

function say(reply: Reply): void {
  process.send?.(reply);
}

async function listen(options: ServerOptions): Promise<void> {
  await Promise.all(options.addresses.map(address => listenOn(serverOf(options), address)));
}

function serverOf(options: ServerOptions): Server {
  const server = http.createServer((request, response) => {
    const answer = answerTo(request, options, Date.now());
    if (seen.length < seenAtMost) {
      seen.push({
        method: request.method ?? '',
        path: request.url ?? '',
        from: request.socket.remoteAddress ?? '',
        status: answer.status,
      });
    }
    send(response, answer);
  });
  server.keepAliveTimeout = 60_000;
  return server;
}

function listenOn(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(80, address, resolve);
  });
}

interface Answered {
  readonly status: number;
  readonly body: string;
  readonly headers?: Record<string, string>;
}

function answerTo(request: IncomingMessage, options: ServerOptions, now: number): Answered {
  const path = request.url ?? '';
  if (path === '/latest/api/token') return request.method === 'PUT' ? newToken(request, now) : nothing(405);
  if (request.method !== 'GET') return nothing(405);
  const token = request.headers['x-aws-ec2-metadata-token'];
  if (token === undefined && !options.version1) return nothing(401);
  if (token !== undefined && !((tokens.get(String(token)) ?? 0) > now)) return nothing(401);
  return metadata(path, options);
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
