import type { Family } from '../sets/address.ts';
import { ERRNO, KernelError, type Libc } from './libc.ts';

const AF = { ipv4: 2, ipv6: 10 } as const;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
/** struct sockaddr_in, struct sockaddr_in6 */
const ADDRESS_BYTES = { ipv4: 16, ipv6: 28 } as const;

/**
 * A TCP socket of the namespace that the caller is in, bound to the first of these local ports that is free there; not
 * connected yet. `new net.Socket({ fd })` takes it over.
 *
 * @throws KernelError EAFNOSUPPORT where the namespace has no such family, EADDRINUSE where none of the ports is free
 */
export function openTcpSocket(c: Libc, family: Family, ports: readonly number[]): { readonly fd: number; readonly port: number } {
  const fd = c.socket(AF[family], SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new KernelError(`a socket of ${family}`, c.errno());
  let errno: number = ERRNO.EADDRINUSE;
  for (const port of ports) {
    const address = Buffer.alloc(ADDRESS_BYTES[family]);
    address.writeUInt16LE(AF[family]);
    address.writeUInt16BE(port, 2);
    if (c.bind(fd, address, address.length) >= 0) return { fd, port };
    errno = c.errno();
    if (errno !== ERRNO.EADDRINUSE) break;
  }
  c.close(fd);
  throw new KernelError(`a local port for ${family}`, errno);
}
