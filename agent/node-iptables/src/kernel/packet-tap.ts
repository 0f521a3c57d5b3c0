import type { Instruction } from '../netlink/socket-filter.ts';
import { ERRNO, KernelError, type Libc, libc } from './libc.ts';

const AF_PACKET = 17;
/** Without link headers: every packet begins with that of IP. */
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
/** ETH_P_ALL, as the kernel wants it (big-endian): only such a socket is shown what goes out. */
const EVERY_PROTOCOL = 0x0300;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_ATTACH_FILTER = 26;
const SOL_PACKET = 263;
const PACKET_STATISTICS = 6;
const MSG_DONTWAIT = 0x40;
/** struct sockaddr_ll */
const ADDRESS_BYTES = 20;
const PACKET_OTHERHOST = 3;
const PACKET_OUTGOING = 4;

/** A packet as it passed an interface. */
export interface Tapped {
  readonly interfaceIndex: number;
  /** Whether it was sent by the interface; otherwise it came in by it. */
  readonly outgoing: boolean;
  /** Its frame is for another's MAC address: the interface itself does nothing with it, though a bridge may. */
  readonly forAnother: boolean;
  /** From the IP header on; as much as the filter lets through. Valid during the call only. */
  readonly bytes: Buffer;
}

/**
 * A socket that is shown packets of all interfaces of this network namespace (packet(7)): what comes in before any rule has
 * judged it (after XDP alone), what goes out after all have. The filter is run by the kernel for every packet of the node, so keep
 * it open no longer than needed.
 */
export class PacketTap {
  private readonly c: Libc;
  private readonly fd: number;
  private readonly room = Buffer.alloc(2048);
  private readonly address = Buffer.alloc(ADDRESS_BYTES);
  private readonly addressLength = Buffer.alloc(4);

  private constructor(c: Libc, fd: number) {
    this.c = c;
    this.fd = fd;
  }

  /** @throws KernelError EPERM without CAP_NET_RAW */
  static async open(filter: readonly Instruction[], receiveBytes: number): Promise<PacketTap> {
    const c = await libc();
    // Of no protocol until the filter is in place: nothing else gets in before.
    const fd = c.socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) throw new KernelError('a packet socket', c.errno());
    try {
      const room = Buffer.alloc(4);
      room.writeInt32LE(receiveBytes);
      c.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, room, 4);
      attach(c, fd, filter);
      const address = Buffer.alloc(ADDRESS_BYTES);
      address.writeUInt16LE(AF_PACKET);
      address.writeUInt16LE(EVERY_PROTOCOL, 2);
      if (c.bind(fd, address, ADDRESS_BYTES) < 0) throw new KernelError('a packet socket: bind', c.errno());
      return new PacketTap(c, fd);
    } catch (error) {
      c.close(fd);
      throw error;
    }
  }

  /**
   * The packets that have passed since the last call, as far as `atMost` of them go: who floods the node must not keep us here for
   * ever. True when these were all.
   */
  drain(visit: (packet: Tapped) => void, atMost: number): boolean {
    for (let taken = 0; taken < atMost; taken++) {
      this.addressLength.writeUInt32LE(ADDRESS_BYTES);
      const length = this.c.recvfrom(this.fd, this.room, this.room.length, MSG_DONTWAIT, this.address, this.addressLength);
      if (length < 0) {
        const errno = this.c.errno();
        if (errno === ERRNO.EAGAIN) return true;
        // ENETDOWN: an interface went away. The socket goes on.
        if (errno === ERRNO.EINTR || errno === ENETDOWN) continue;
        throw new KernelError('a packet socket: receive', errno);
      }
      visit({ interfaceIndex: this.address.readInt32LE(4), outgoing: this.address[10] === PACKET_OUTGOING, forAnother: this.address[10] === PACKET_OTHERHOST, bytes: this.room.subarray(0, length) });
    }
    return false;
  }

  /** How many packets the kernel had to throw away since the last call, because nobody took them. */
  lost(): number {
    const [statistics, length] = [Buffer.alloc(8), Buffer.alloc(4)];
    length.writeUInt32LE(8);
    return this.c.getsockopt(this.fd, SOL_PACKET, PACKET_STATISTICS, statistics, length) < 0 ? 0 : statistics.readUInt32LE(4);
  }

  close(): void {
    this.c.close(this.fd);
  }
}

const ENETDOWN = 100;

/** struct sock_fprog: how many, and where. */
function attach(c: Libc, fd: number, filter: readonly Instruction[]): void {
  const instructions = Buffer.alloc(filter.length * 8);
  filter.forEach(({ code, jumpTrue, jumpFalse, k }, at) => {
    instructions.writeUInt16LE(code, at * 8);
    instructions.writeUInt8(jumpTrue, at * 8 + 2);
    instructions.writeUInt8(jumpFalse, at * 8 + 3);
    instructions.writeUInt32LE(k >>> 0, at * 8 + 4);
  });
  const program = Buffer.alloc(16);
  program.writeUInt16LE(filter.length);
  program.writeBigUInt64LE(c.addressOf(instructions), 8);
  if (c.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, 16) < 0) throw new KernelError('a packet socket: filter', c.errno());
}
