import { type AddressInfo, type Server, type Socket, SocketAddress, createServer, isIPv6 } from 'node:net';
import { UsageError } from '../config.ts';
import { answerOne } from './one-answer.ts';
import { type Open, type StatusSource, answersOf } from './status-answers.ts';

export interface StatusServerOptions {
  /** Where all endpoints are. An IP address. */
  readonly address: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** Where `/metrics` is too, alone. */
  readonly metricsAddress?: string;
  /** How long a client may take to ask, and again to take its answer. */
  readonly patienceMs?: number;
  /** Milliseconds since any moment. */
  readonly now?: () => number;
}

export interface StatusServer {
  /** One for each listener: of `address` first. */
  readonly ports: readonly number[];
  /** Cuts whoever is connected, and ends with the last of them. */
  readonly close: () => Promise<void>;
}

/** At most so many connections of each kind: whoever fills those of `/metrics` leaves kubelet its own. */
const AT_MOST = 64;

/**
 * The endpoints of the daemon. Whatever a client does, it takes no more than a connection for a moment.
 *
 * @throws UsageError that names the port when it is in use, not permitted, or the address is not this node's
 */
export async function startStatusServer(options: StatusServerOptions, source: StatusSource): Promise<StatusServer> {
  const { patienceMs = 5_000, now = () => performance.now() } = options;
  const answers = answersOf(source);
  const connected: Connected = { all: new Set(), metrics: new Set() };
  const servers: Server[] = [];
  const close = async (): Promise<void> => {
    const ends = servers.map(closed);
    for (const socket of [...connected.all, ...connected.metrics]) socket.destroy();
    await Promise.all(ends);
  };
  let { port } = options;
  try {
    for (const { address, openTo } of listeners(options)) {
      const server = createServer((socket) => {
        const open = openTo(socket);
        admit(socket, connected[open]);
        answerOne(socket, patienceMs, (asked) => answers(asked, open, now()));
      });
      await listening(server, address, port);
      servers.push(server);
      ({ port } = server.address() as AddressInfo);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { ports: servers.map((server) => (server.address() as AddressInfo).port), close };
}

interface Listener {
  readonly address: string;
  readonly openTo: (socket: Socket) => Open;
}

/**
 * Two, or one where a second could not be: Linux refuses 127.0.0.1:16925 beside 0.0.0.0:16925. Then the address that a
 * client connected to tells what it may ask for, which is as good: that the kernel lets nobody from outside connect to
 * 127.0.0.1 is what a listener of its own would rest on, too.
 */
function listeners({ address, metricsAddress }: StatusServerOptions): Listener[] {
  const all: Listener = { address, openTo: () => 'all' };
  if (metricsAddress === undefined || includes(address, metricsAddress)) return [all];
  if (includes(metricsAddress, address)) return [{ address: metricsAddress, openTo: ({ localAddress }) => (same(localAddress ?? '', address) ? 'all' : 'metrics') }];
  return [all, { address: metricsAddress, openTo: () => 'metrics' }];
}

/** Whether a listener at one address gets what is sent to another. `::` gets IPv4 as well. */
const includes = (listener: string, address: string): boolean => same(listener, address) || same(listener, '::') || (listener === '0.0.0.0' && !isIPv6(address));

const same = (one: string, other: string): boolean => canonical(one) === canonical(other);

/** `0:0::1` is `::1`; an IPv4 client of `::` is seen at `::ffff:127.0.0.1`. */
const canonical = (address: string): string => (isIPv6(address) ? new SocketAddress({ address, family: 'ipv6' }).address.replace(/^::ffff:(?=\d+\.)/, '') : address);

type Connected = Readonly<Record<Open, Set<Socket>>>;

/**
 * Who has been there longest makes room: a probe, which is the newest, gets through whatever others hold open. A set keeps
 * the order in which they came.
 */
function admit(socket: Socket, connected: Set<Socket>): void {
  const [longest] = connected;
  if (longest && connected.size >= AT_MOST) {
    connected.delete(longest);
    longest.resetAndDestroy();
  }
  connected.add(socket);
  socket.once('close', () => connected.delete(socket));
}

async function listening(server: Server, address: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port }, () => {
        server.off('error', reject);
        // A connection that could not be accepted (no descriptors left) is the client's loss, and not the daemon's end.
        server.on('error', () => {});
        resolve();
      });
    });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    // A kernel without IPv6 has no `::`; then all addresses are those of IPv4.
    if (same(address, '::') && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) return listening(server, '0.0.0.0', port);
    const why = WHY[code]?.(address, port);
    throw why === undefined ? error : new UsageError(`${why}; choose another with --port (0 for none) or --address`, { cause: error });
  }
}

const WHY: Readonly<Record<string, (address: string, port: number) => string>> = {
  EADDRINUSE: (address, port) => `port ${port} at ${address} is in use, by another imds-guard watch or another program (\`ss -Hltnp 'sport = ${port}'\` names it)`,
  EACCES: (address, port) => `port ${port} at ${address} is not permitted: ports below 1024 need CAP_NET_BIND_SERVICE`,
  EADDRNOTAVAIL: (address, port) => `port ${port} at ${address}: this node does not have that address`,
  EAFNOSUPPORT: (address, port) => `port ${port} at ${address}: this kernel does not speak that family`,
};

const closed = (server: Server): Promise<void> => new Promise((resolve) => void server.close(() => resolve()));
