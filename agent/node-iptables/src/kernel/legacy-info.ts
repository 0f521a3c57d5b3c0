import { ENTRIES_HEAD_BYTES, INFO_BYTES, type LegacyInfo, NAME_BYTES, decodeInfo } from '../netlink/x-tables.ts';
import type { Family } from '../sets/address.ts';
import { ERRNO, KernelError, type Libc, libc } from './libc.ts';

/**
 * Asks the kernel about tables of iptables-legacy without starting a program: two calls, the same that iptables-legacy makes.
 *
 * Only for tables that /proc/net/ip_tables_names lists (legacyTables): asking for another one creates it, and loads its module.
 * Needs CAP_NET_ADMIN. iptables-legacy asks on a raw socket; any socket of the family will do, and needs no CAP_NET_RAW.
 */
export class LegacyTables {
  private readonly c: Libc;
  private readonly sockets: Readonly<Record<Family, number>>;
  private readonly room = Buffer.alloc(KEPT_BYTES);

  private constructor(c: Libc, sockets: Readonly<Record<Family, number>>) {
    this.c = c;
    this.sockets = sockets;
  }

  static async open(): Promise<LegacyTables> {
    const c = await libc();
    // A kernel without IPv6 has no such sockets, and no such tables.
    return new LegacyTables(c, { ipv4: c.socket(AF.ipv4, SOCK_DGRAM | SOCK_CLOEXEC, 0), ipv6: c.socket(AF.ipv6, SOCK_DGRAM | SOCK_CLOEXEC, 0) });
  }

  /**
   * Undefined when there is no such table (any more).
   * @throws KernelError when it may not be asked (EPERM)
   */
  info(family: Family, table: string): LegacyInfo | undefined {
    const bytes = Buffer.alloc(INFO_BYTES);
    bytes.write(table, 0, NAME_BYTES - 1, 'latin1');
    const errno = this.get(family, GET_INFO, bytes, INFO_BYTES);
    if (errno === 0) return decodeInfo(bytes);
    if (NO_TABLE.has(errno)) return undefined;
    throw new KernelError(`${family} ${table}: IPT_SO_GET_INFO`, errno);
  }

  /**
   * The entries, as bytes that are valid until the next call. Undefined when the table is not of this size (any more).
   * @throws KernelError when they may not be asked for, or there is no memory
   */
  entries(family: Family, table: string, size: number): Buffer | undefined {
    const length = ENTRIES_HEAD_BYTES + size;
    // A long table is rarely read: its megabytes are not kept.
    const room = length <= KEPT_BYTES ? this.room : Buffer.alloc(length);
    // The kernel writes names up to their NUL and leaves what is behind as it was.
    room.fill(0, 0, length);
    room.write(table, 0, NAME_BYTES - 1, 'latin1');
    room.writeUInt32LE(size, NAME_BYTES);
    const errno = this.get(family, GET_ENTRIES, room, length);
    if (errno === 0) return room.subarray(ENTRIES_HEAD_BYTES, length);
    // Of another size by now: EAGAIN, and EINVAL before 2.6.25.
    if (errno === ERRNO.EAGAIN || NO_TABLE.has(errno)) return undefined;
    throw new KernelError(`${family} ${table}: IPT_SO_GET_ENTRIES`, errno);
  }

  close(): void {
    for (const fd of Object.values(this.sockets)) if (fd >= 0) this.c.close(fd);
  }

  /** 0, or why not. */
  private get(family: Family, option: number, value: Buffer, bytes: number): number {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes);
    return this.c.getsockopt(this.sockets[family], LEVEL[family], option, value, length) === 0 ? 0 : this.c.errno();
  }
}

const KEPT_BYTES = 64 * 1024;

const AF: Readonly<Record<Family, number>> = { ipv4: 2, ipv6: 10 };
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

/** IPPROTO_IP and IPPROTO_IPV6; the options have one number in both. */
const LEVEL: Readonly<Record<Family, number>> = { ipv4: 0, ipv6: 41 };
const GET_INFO = 64;
const GET_ENTRIES = 65;

/** ENOENT of the table; ENOPROTOOPT where the kernel has no x_tables of this family; EBADF where it does not have the family. */
const NO_TABLE: ReadonlySet<number> = new Set([ERRNO.ENOENT, 92, 9]);
