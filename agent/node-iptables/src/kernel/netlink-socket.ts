import { createSocket } from 'node:dgram';
import { type Message, NLMSG, NLM_F, errorOf, messagesOf } from '../netlink/message.ts';
import { ERRNO, KernelError, type Libc, libc } from './libc.ts';

const AF_INET = 2;
const AF_NETLINK = 16;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const MSG_DONTWAIT = 0x40;
/** struct sockaddr_nl */
const ADDRESS_BYTES = 12;

export interface EventSource {
  readonly protocol: number;
  /** Multicast groups to join, by number. */
  readonly groups: readonly number[];
  /** How much the kernel may keep for us while we are busy; more is lost, and we are told (ENOBUFS). */
  readonly receiveBytes: number;
}

export interface EventListener {
  message(datagram: Buffer): void;
  /** `ENOBUFS`: events were lost. The socket goes on. */
  error(error: NodeJS.ErrnoException): void;
}

/**
 * A netlink socket whose messages arrive as events: no thread waits for them, and nothing is polled. Node has no words for
 * AF_NETLINK (net.Socket refuses such a descriptor), but its UDP sockets read datagrams from any: so a UDP socket is opened
 * and, before anything is waited for, the netlink socket is put in the place of its descriptor (dup2).
 *
 * @throws KernelError when the kernel has no such protocol, or the groups may not be joined
 */
export async function openEvents(source: EventSource, listener: EventListener): Promise<{ close(): void }> {
  const c = await libc();
  const fd = open(c, source.protocol, SOCK_NONBLOCK);
  const udp = must(c, 'socket', c.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  try {
    setNumber(c, fd, SOL_SOCKET, SO_RCVBUFFORCE, source.receiveBytes);
    for (const group of source.groups) {
      if (setNumber(c, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group) < 0) throw new KernelError(`netlink protocol ${source.protocol}, group ${group}`, c.errno());
    }
    const socket = createSocket('udp4');
    socket.on('message', (datagram) => listener.message(datagram));
    socket.on('error', (error: NodeJS.ErrnoException) => listener.error(error));
    socket.bind({ fd: udp });
    must(c, 'dup2', c.dup2(fd, udp));
    return { close: () => socket.close() };
  } catch (error) {
    c.close(udp);
    throw error;
  } finally {
    c.close(fd);
  }
}

/** What a kernel answered to one request or batch. */
export interface Answered {
  /** Messages that are no acknowledgements: what a dump listed. */
  readonly messages: readonly Message[];
  /** For each message of a batch that asked for it, or failed: 0, or the errno. */
  readonly results: readonly number[];
}

/**
 * A netlink socket to ask on. The kernel has done the work, and queued its answer, when send(2) returns: so asking is a
 * call like any other, and takes as long as the kernel takes (a hundredth of a millisecond, or until another process's
 * large batch is through).
 */
export class NetlinkRequests {
  readonly fd: number;
  /** Its address to the kernel: what makes it the owner of a table. */
  readonly port: number;
  private readonly c: Libc;
  private readonly room = Buffer.alloc(128 * 1024);

  private constructor(c: Libc, fd: number) {
    this.c = c;
    this.fd = fd;
    const [address, length] = [Buffer.alloc(ADDRESS_BYTES), Buffer.alloc(4)];
    length.writeUInt32LE(ADDRESS_BYTES);
    must(c, 'getsockname', c.getsockname(fd, address, length));
    this.port = address.readUInt32LE(4);
  }

  /** @throws KernelError when the kernel has no such protocol */
  static async open(protocol: number): Promise<NetlinkRequests> {
    const c = await libc();
    const fd = open(c, protocol, 0);
    setNumber(c, fd, SOL_SOCKET, SO_RCVBUF, 1024 * 1024);
    // A batch is sent in one piece. Who may not have more room than others is told when one is too large (EMSGSIZE).
    setNumber(c, fd, SOL_SOCKET, SO_SNDBUFFORCE, 512 * 1024);
    return new NetlinkRequests(c, fd);
  }

  /** The same for who is in another network namespace for a moment (NetworkNamespaces): what is asked is answered for that one. */
  static openHere(c: Libc, protocol: number): NetlinkRequests {
    return new NetlinkRequests(c, open(c, protocol, 0));
  }

  /** A socket that somebody kept for us: it is the same one to the kernel, so it still owns what it owned. */
  static async adopt(fd: number): Promise<NetlinkRequests> {
    return new NetlinkRequests(await libc(), fd);
  }

  /** @throws KernelError when it cannot be sent at all; what the kernel refuses is in the results */
  ask(...requests: readonly Buffer[]): Answered {
    const messages: Message[] = [];
    const results = this.exchange(requests, (message) => messages.push({ ...message, body: Buffer.from(message.body) }));
    return { messages, results };
  }

  /**
   * Asks for a list, and shows each entry as it comes: a long list is never held whole. An entry is only valid during the
   * call. Undefined when all went well; otherwise the errno, or `interrupted` when the list changed meanwhile.
   */
  list(request: Buffer, visit: (message: Message) => void): number | 'interrupted' | undefined {
    let interrupted = false;
    const results = this.exchange([request], (message) => {
      interrupted ||= (message.flags & NLM_F.DUMP_INTR) !== 0;
      visit(message);
    });
    return results.find((errno) => errno !== 0) ?? (interrupted ? 'interrupted' : undefined);
  }

  private exchange(requests: readonly Buffer[], visit: (message: Message) => void): number[] {
    const bytes = Buffer.concat(requests);
    this.discard();
    const sent = this.c.send(this.fd, bytes, bytes.length, 0);
    if (sent < 0) throw new KernelError('netlink send', this.c.errno());
    const results: number[] = [];
    for (;;) {
      const length = this.c.recv(this.fd, this.room, this.room.length, MSG_DONTWAIT);
      if (length < 0) {
        const errno = this.c.errno();
        if (errno === ERRNO.EAGAIN) return results;
        if (errno === ERRNO.EINTR) continue;
        throw new KernelError('netlink receive', errno);
      }
      for (const message of messagesOf(this.room.subarray(0, length))) {
        const result = errorOf(message);
        if (result !== undefined) results.push(result);
        else if (message.type === NLMSG.DONE) return results;
        else visit(message);
      }
    }
  }

  close(): void {
    this.c.close(this.fd);
  }

  /** An answer that nobody waited for (after an error) is none to the next question. */
  private discard(): void {
    while (this.c.recv(this.fd, this.room, this.room.length, MSG_DONTWAIT) >= 0);
  }
}

function open(c: Libc, protocol: number, flags: number): number {
  const fd = must(c, `netlink protocol ${protocol}`, c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol));
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_NETLINK);
  if (c.bind(fd, address, ADDRESS_BYTES) >= 0) return fd;
  const errno = c.errno();
  c.close(fd);
  throw new KernelError(`netlink protocol ${protocol}: bind`, errno);
}

function must(c: Libc, what: string, result: number): number {
  if (result < 0) throw new KernelError(what, c.errno());
  return result;
}

function setNumber(c: Libc, fd: number, level: number, name: number, value: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return c.setsockopt(fd, level, name, bytes, 4);
}
