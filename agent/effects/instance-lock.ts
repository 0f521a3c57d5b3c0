import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { type Socket, connect, createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { type Libc, libc } from 'node-iptables/kernel';

/**
 * One daemon a node. An abstract unix socket belongs to a network namespace, which is what the rules belong to as well: the
 * service of the host and a DaemonSet with hostNetwork meet here though they share no directory. The kernel takes the
 * name back at any death of its holder, SIGKILL included, and tells all who are connected: nobody polls, nothing goes stale.
 *
 * The name is not protected: any process in the network namespace may bind it first. Standing by for one of those would
 * leave the node unguarded, so only who could change the firewall anyway is believed; others are reported as squatters.
 */
export type Lock =
  | { readonly held: true; release(): Promise<void> }
  | {
      readonly held: false;
      readonly squatter: false;
      readonly leader: Leader;
      /** Resolves when the holder ends or lets go. Others wait too: who wants the lock then takes it again, and may lose. */
      readonly whenFree: Promise<void>;
      /** Waits no longer. */
      leave(): void;
    }
  | {
      readonly held: false;
      readonly squatter: true;
      /** Why it is not believed: `uid 1000 holds the name`. */
      readonly because: string;
      readonly leader?: Leader;
      /** Undefined where the name is bound and nobody listens: the kernel then tells nobody. May resolve at once. */
      readonly whenFree?: Promise<void>;
      leave(): void;
    };

export interface Leader {
  /** Undefined where it lives in a pid namespace that is out of our sight. */
  readonly pid: number | undefined;
  readonly uid: number;
}

/** @throws when the C library cannot be called (see libc), or no socket can be had at all */
export async function takeLock(name = 'imds-guard'): Promise<Lock> {
  const c = await libc();
  for (let tries = 1; ; tries += 1) {
    const held = await hold(`\0${name}`, c);
    if (held !== undefined) return held;
    const other = await meet(`\0${name}`);
    if (typeof other !== 'string') return judge(other, c);
    // Refused: the holder let go just now, or has bound and is about to listen. Both are over in no time, unless it is a
    // squatter that will never listen (or a socket of another kind).
    if (tries === TRIES) return { held: false, squatter: true, because: `the name is bound by somebody who does not listen (${other})`, leave: () => {} };
    await wait(PAUSE_MS);
  }
}

const TRIES = 20;
const PAUSE_MS = 10;

/** Undefined when the name is taken. */
async function hold(path: string, c: Libc): Promise<Lock | undefined> {
  const standingBy = new Set<Socket>();
  const server = createServer((socket) => {
    // An unprivileged process could hold thousands of connections, and with them all our descriptors.
    if (!isTrusted(peerOf(socket, c).uid)) return void socket.destroy();
    standingBy.add(socket);
    // Nothing is ever sent. The end of who gives up waiting is seen only by reading.
    socket.on('error', () => {}).on('close', () => standingBy.delete(socket)).resume();
  });
  try {
    await once(server.listen(path), 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined;
    throw error;
  }
  // Out of descriptors, a connection is not accepted and waits. The name stays ours.
  server.on('error', () => {});
  const release = async (): Promise<void> => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of standingBy) socket.destroy();
    await closed;
  };
  return { held: true, release };
}

/** Connected to whoever listens, or the code of the refusal. */
async function meet(path: string): Promise<Socket | string> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return socket;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

function judge(socket: Socket, c: Libc): Lock {
  const whenFree = new Promise<void>((free) => void socket.on('error', () => {}).on('close', () => free()).resume());
  const leader = peerOf(socket, c);
  const because = whyNotBelieved(leader);
  const leave = (): void => void socket.destroy();
  return because === undefined ? { held: false, squatter: false, leader, whenFree, leave } : { held: false, squatter: true, because, leader, whenFree, leave };
}

/** struct ucred, of whoever called listen() or connect(). Node keeps the descriptor of a socket to itself. */
function peerOf(socket: Socket, c: Libc): Leader {
  const { fd } = (socket as unknown as { readonly _handle: { readonly fd: number } })._handle;
  const credentials = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(credentials.length);
  // Of a connected unix socket this cannot fail; were it to, uid 0xffffffff is nobody we trust.
  if (c.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0) credentials.fill(0xff);
  return { pid: credentials.readInt32LE(0) || undefined, uid: credentials.readUInt32LE(4) };
}

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

const isTrusted = (uid: number): boolean => uid === 0 || uid === process.getuid?.();

/**
 * A container with hostNetwork runs as root more often than not, without any right over the network. /proc tells, where the
 * holder is in sight; its user namespace too, in which anybody has every capability.
 */
function whyNotBelieved({ pid, uid }: Leader): string | undefined {
  if (!isTrusted(uid)) return `uid ${uid} holds the name`;
  if (pid === undefined || !isOurProc()) return undefined;
  const capabilities = attempt(() => /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  if (capabilities === undefined) return `process ${pid}, which is gone, left the name to another`;
  if ((BigInt(`0x${capabilities}`) & CAP_NET_ADMIN) === 0n) return `process ${pid} holds the name, and has no CAP_NET_ADMIN`;
  // Not readable with fewer capabilities than the holder's: then nothing speaks against it.
  const users = attempt(() => readlinkSync(`/proc/${pid}/ns/user`));
  return users !== undefined && users !== readlinkSync('/proc/self/ns/user') ? `process ${pid} holds the name, from another user namespace` : undefined;
}

const CAP_NET_ADMIN = 1n << 12n;

/** The numbers in /proc are those of the pid namespace that it was mounted in, which need not be the one we are in. */
const isOurProc = (): boolean => attempt(() => readlinkSync('/proc/self')) === String(process.pid);

function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
