// Stands before the API server and, when it is told to, does what API servers and the networks before them do to their clients.
//
// It has the server's own certificate, so clients cannot tell the two apart. It can listen in a lab node's namespace: that is how
// an agent there reaches the server at all.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, createServer as createHttpsServer, request as requestHttps } from 'node:https';
import { readFileSync } from 'node:fs';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { ApiServer } from './api-server.ts';
import { listenIn } from './listener.ts';

/** `lose-answer`: the server does what it was asked, and the client never hears of it. `cut-answer`: it hears half. */
export type Fault =
  | { readonly answer: number; readonly retryAfterSeconds?: number }
  | { readonly is: 'hang' | 'reset' | 'lose-answer' | 'cut-answer' }
  | { readonly delayMs: number };

/** `silent`: connections are made, and nothing is said on them. */
export type Connections = 'taken' | 'silent' | 'reset' | 'refused';

/** Which requests are meant; what is left out is any. The path is matched without its query. */
export interface Selection {
  readonly method?: string;
  readonly path?: RegExp | string;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  /** With its question mark, or empty. */
  readonly query: string;
  readonly token: string;
  readonly contentType: string;
  readonly userAgent: string;
  readonly body: string;
  /** performance.now() when it had come in. */
  readonly atMs: number;
  /** What became of it. */
  readonly fault: Fault | 'passed';
}

export interface FaultProxy {
  readonly url: string;
  readonly port: number;
  readonly caFile: string;
  /** From the next request on, for so many of the selected ones (default: until pass()). Of several faults the first given that is left counts. */
  fault(fault: Fault, selection?: Selection & { readonly times?: number }): void;
  /** No request meets a fault any more. */
  pass(): void;
  /** All but `taken` end the connections that there are with a reset. */
  setConnections(to: Connections): Promise<void>;
  /** Resets every connection, as a server that is started again; new ones are taken. */
  forgetConnections(): void;
  /** The requests that came in, oldest first. */
  asked(selection?: Selection): readonly Asked[];
  /** Resolves with the first of the selected ones after `since` (a length of asked()), at once if it has come. */
  untilAsked(selection?: Selection, options?: { readonly since?: number; readonly withinMs?: number }): Promise<Asked>;
  /** How many connections have been made so far. */
  connections(): number;
  stop(): Promise<void>;
}

export interface FaultProxyOptions {
  /** Of the network, by its name. Default: where the server is. */
  readonly namespace?: string;
  readonly port?: number;
}

export async function startFaultProxy(server: Pick<ApiServer, 'port' | 'caFile' | 'keyFile'>, { namespace, port: wanted = 0 }: FaultProxyOptions = {}): Promise<FaultProxy> {
  const certificate = readFileSync(server.caFile, 'utf8');
  const upstream = new Agent({ keepAlive: true, ca: certificate });
  const sockets = new Set<Socket>();
  const faults: { readonly fault: Fault; readonly selection: Selection; left: number }[] = [];
  const asked: Asked[] = [];
  const waiting = new Set<() => void>();
  let connections: Connections = 'taken';
  let made = 0;

  const forgetConnections = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const faultFor = (request: Pick<Asked, 'method' | 'path'>): Fault | undefined => {
    const found = faults.find(({ selection, left }) => left > 0 && isSelected(request, selection));
    if (found !== undefined) found.left -= 1;
    return found?.fault;
  };
  const serve = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(incoming);
    const [path = '', query] = (incoming.url ?? '').split(/(?=\?)/, 2);
    const method = incoming.method ?? '';
    const fault = faultFor({ method, path });
    asked.push({
      method,
      path,
      query: query ?? '',
      token: (incoming.headers.authorization ?? '').replace(/^Bearer /, ''),
      contentType: incoming.headers['content-type'] ?? '',
      userAgent: incoming.headers['user-agent'] ?? '',
      body: body.toString(),
      atMs: performance.now(),
      fault: fault ?? 'passed',
    });
    for (const look of waiting) look();
    const reset = (): void => void tcpOf(incoming, sockets)?.resetAndDestroy();
    const forward = (then: (answer: IncomingMessage) => void): void => {
      const passed = requestHttps({ host: '127.0.0.1', port: server.port, agent: upstream, method, path: incoming.url, headers: incoming.headers }, then);
      passed.on('error', reset);
      response.on('close', () => passed.destroy());
      passed.end(body);
    };
    const passOn = (): void => forward(answer => relay(answer, response, reset));
    if (fault === undefined) passOn();
    else if ('answer' in fault) refuse(response, fault.answer, fault.retryAfterSeconds);
    else if ('delayMs' in fault) setTimeout(passOn, fault.delayMs);
    else if (fault.is === 'reset') reset();
    else if (fault.is === 'lose-answer') forward(answer => void answer.resume().on('end', reset));
    else if (fault.is === 'cut-answer') forward(answer => void cut(answer, response).catch(reset));
  };

  const https = createHttpsServer({ cert: certificate, key: readFileSync(server.keyFile, 'utf8'), keepAliveTimeout: 0, requestTimeout: 0 }, (incoming, response) => {
    serve(incoming, response).catch(() => incoming.destroy()); // the client went before it had asked
  });
  https.on('tlsClientError', () => {}); // a client that does not trust us, or one that was reset
  const take = (socket: Socket): void => {
    made += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    if (connections === 'taken') https.emit('connection', socket);
    else if (connections === 'reset') socket.resetAndDestroy();
  };
  const listen = async (port: number): Promise<Server> => {
    const opened = await listenIn(namespace, port);
    opened.on('connection', take);
    opened.unref();
    return opened;
  };
  let listening: Server | undefined = await listen(wanted);
  const { port } = listening.address() as AddressInfo;
  const close = async (): Promise<void> => {
    const closing = listening;
    listening = undefined;
    if (closing === undefined) return;
    const closed = new Promise(resolve => closing.close(resolve));
    forgetConnections();
    await closed;
  };

  return {
    url: `https://127.0.0.1:${port}`,
    port,
    caFile: server.caFile,
    fault: (fault, { times = Infinity, ...selection } = {}) => void faults.push({ fault, selection, left: times }),
    pass: () => void faults.splice(0),
    setConnections: async to => {
      connections = to;
      if (to === 'refused') await close();
      else {
        if (to !== 'taken') forgetConnections();
        listening ??= await listen(port);
      }
    },
    forgetConnections,
    asked: selection => asked.filter(request => isSelected(request, selection)),
    untilAsked: (selection, { since = 0, withinMs = 30_000 } = {}) =>
      new Promise((resolve, reject) => {
        const settle = (then: () => void): void => {
          clearTimeout(timer);
          waiting.delete(look);
          then();
        };
        const look = (): void => {
          const found = asked.slice(since).find(request => isSelected(request, selection));
          if (found !== undefined) settle(() => resolve(found));
        };
        const timer = setTimeout(() => settle(() => reject(new Error(`nobody asked ${selection?.method ?? ''} ${selection?.path ?? ''} in ${withinMs} ms; what was asked: ${told(asked)}`))), withinMs);
        waiting.add(look);
        look();
      }),
    connections: () => made,
    stop: async () => {
      await close();
      upstream.destroy();
    },
  };
}

function isSelected({ method, path }: Pick<Asked, 'method' | 'path'>, selection: Selection = {}): boolean {
  const isMethod = selection.method === undefined || selection.method === method;
  return isMethod && (selection.path === undefined || (typeof selection.path === 'string' ? selection.path === path : selection.path.test(path)));
}

function told(asked: readonly Asked[]): string {
  return asked.slice(-20).map(({ method, path }) => `${method} ${path}`).join(', ') || 'nothing';
}

/** A reset can only be sent by the TCP socket that TLS was wound around. */
function tcpOf(incoming: IncomingMessage, sockets: ReadonlySet<Socket>): Socket | undefined {
  return [...sockets].find(({ remotePort }) => remotePort === incoming.socket.remotePort);
}

async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of incoming) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

/** As the server's own refusals are worded; clients read `reason` and `details`. */
function refuse(response: ServerResponse, status: number, retryAfterSeconds: number | undefined): void {
  const details = retryAfterSeconds === undefined ? {} : { details: { retryAfterSeconds } };
  response.writeHead(status, { 'content-type': 'application/json', ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }) });
  response.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: `fault proxy: ${status}`, reason: reasons[status] ?? 'InternalError', ...details, code: status }));
}

/** k8s.io/apimachinery, pkg/apis/meta/v1/types.go */
const reasons: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

function relay(answer: IncomingMessage, response: ServerResponse, reset: () => void): void {
  response.writeHead(answer.statusCode ?? 502, answer.headers);
  answer.on('error', reset);
  answer.pipe(response);
}

/** Ends with a FIN: a reset would overtake the half that was said. */
async function cut(answer: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(answer);
  const { 'transfer-encoding': _, ...headers } = answer.headers;
  response.writeHead(answer.statusCode ?? 502, { ...headers, 'content-length': body.length });
  response.write(body.subarray(0, body.length / 2), () => response.destroy());
}
