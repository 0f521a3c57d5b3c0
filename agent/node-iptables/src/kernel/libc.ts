/**
 * The few functions of libc that Node has no words for, by FFI (koffi: prebuilt, 1.7 MiB of memory). Loaded when the first
 * of them is wanted, so that whoever only judges a ruleset does not pay for it. Sizes and offsets are those of the two
 * 64-bit little-endian machines that this runs on (x86-64 and arm64), which agree in everything used here.
 */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Buffer, length: number): number;
  getsockname(fd: number, address: Buffer, length: Buffer): number;
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number;
  /** `length` holds the room on the way in, the used part on the way out (socklen_t). */
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Buffer): number;
  send(fd: number, data: Buffer, length: number, flags: number): number;
  recv(fd: number, room: Buffer, length: number, flags: number): number;
  sendmsg(fd: number, message: Buffer, flags: number): number;
  dup2(from: number, to: number): number;
  close(fd: number): number;
  /** Moves this thread, and no other, into a namespace. */
  setns(fd: number, type: number): number;
  /** Where the sender's address goes, and how long it is (socklen_t, in and out). */
  recvfrom(fd: number, room: Buffer, length: number, flags: number, address: Buffer, addressLength: Buffer): number;
  /** The address of a buffer, to stand in a struct (struct msghdr, struct iovec). The buffer must be kept alive. */
  addressOf(buffer: Buffer): bigint;
  /** errno of the last call that returned -1. */
  errno(): number;
}

export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** As errno(3) numbers it. */
  readonly errno: number;
  /** `EPERM`, or `errno 134`. */
  readonly code: string;
  constructor(what: string, errno: number) {
    const code = ERRNO_NAMES[errno] ?? `errno ${errno}`;
    super(`${what}: ${code}`);
    this.errno = errno;
    this.code = code;
  }
}

export const ERRNO = { EPERM: 1, ENOENT: 2, EINTR: 4, EAGAIN: 11, ENOMEM: 12, EBUSY: 16, EEXIST: 17, EINVAL: 22, EMSGSIZE: 90, EPROTONOSUPPORT: 93, EOPNOTSUPP: 95, EAFNOSUPPORT: 97, EADDRINUSE: 98, ENOBUFS: 105 } as const;
const ERRNO_NAMES: Readonly<Record<number, string>> = Object.fromEntries(Object.entries(ERRNO).map(([name, number]) => [number, name]));

let loaded: Promise<Libc> | undefined;

/** @throws when the FFI library cannot be loaded: a C library other than glibc, a file system mounted noexec */
export const libc = (): Promise<Libc> => (loaded ??= load());

async function load(): Promise<Libc> {
  const { load: open, address, errno } = await import('koffi');
  const own = open(null);
  return {
    socket: own.func('int socket(int, int, int)'),
    bind: own.func('int bind(int, const void *, uint32_t)'),
    getsockname: own.func('int getsockname(int, void *, void *)'),
    setsockopt: own.func('int setsockopt(int, int, int, const void *, uint32_t)'),
    getsockopt: own.func('int getsockopt(int, int, int, void *, void *)'),
    send: own.func('long send(int, const void *, size_t, int)'),
    recv: own.func('long recv(int, void *, size_t, int)'),
    sendmsg: own.func('long sendmsg(int, const void *, int)'),
    dup2: own.func('int dup2(int, int)'),
    close: own.func('int close(int)'),
    setns: own.func('int setns(int, int)'),
    recvfrom: own.func('long recvfrom(int, void *, size_t, int, void *, void *)'),
    addressOf: (buffer) => BigInt(address(buffer)),
    errno: () => Number(errno()),
  };
}
