import { KernelError, type Libc, libc } from 'node-iptables/kernel';

/**
 * Tells the service manager something (sd_notify(3)): `READY=1`, `WATCHDOG=1`, `STATUS=…`, `STOPPING=1`; with a descriptor,
 * `FDSTORE=1\nFDNAME=guard\nFDPOLL=0`, which systemd then keeps over our death (FileDescriptorStoreMax= in the unit). Without
 * FDPOLL=0 it throws away what reports an error, as a netlink socket does that has lost events.
 *
 * `socket` is NOTIFY_SOCKET: a path, or an abstract name behind `@`; undefined where nobody wants to know.
 *
 * @throws KernelError when it cannot be told: nobody listens, or its queue is full (EAGAIN); we never wait for it
 */
export async function notify(socket: string | undefined, text: string, descriptor?: number): Promise<void> {
  if (socket === undefined || socket === '') return;
  const c = await libc();
  const address = addressOf(socket);
  const fd = c.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new KernelError('notify: socket', c.errno());
  try {
    // Only sendmsg(2) hands over descriptors.
    if (sendTo(c, fd, address, Buffer.from(text), descriptor) < 0) throw new KernelError(`notify ${socket}`, c.errno());
  } finally {
    c.close(fd);
  }
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** struct sockaddr_un: a path ends in NUL, an abstract name begins with it and ends where the address ends. */
function addressOf(socket: string): Buffer {
  const path = socket.startsWith('@') ? `\0${socket.slice(1)}` : `${socket}\0`;
  const address = Buffer.from(`\0\0${path}`);
  if (!/^[/@]./.test(socket) || address.length > 2 + 108) throw new RangeError(`NOTIFY_SOCKET=${socket} is no path and no abstract name of a unix socket`);
  address.writeUInt16LE(AF_UNIX);
  return address;
}

function sendTo(c: Libc, fd: number, address: Buffer, data: Buffer, descriptor: number | undefined): number {
  const parts = Buffer.alloc(16); // struct iovec
  parts.writeBigUInt64LE(c.addressOf(data), 0);
  parts.writeBigUInt64LE(BigInt(data.length), 8);
  const control = descriptor === undefined ? undefined : rights(descriptor);
  const message = Buffer.alloc(56); // struct msghdr
  message.writeBigUInt64LE(c.addressOf(address), 0);
  message.writeUInt32LE(address.length, 8);
  message.writeBigUInt64LE(c.addressOf(parts), 16);
  message.writeBigUInt64LE(1n, 24);
  if (control !== undefined) {
    message.writeBigUInt64LE(c.addressOf(control), 32);
    message.writeBigUInt64LE(BigInt(control.length), 40);
  }
  return c.sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/** struct cmsghdr with one descriptor: 16 bytes of head, 4 of it, and 4 that fill it up. */
function rights(descriptor: number): Buffer {
  const control = Buffer.alloc(24);
  control.writeBigUInt64LE(20n, 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  control.writeInt32LE(descriptor, 16);
  return control;
}
