import { closeSync, constants, openSync } from 'node:fs';
import { KernelError, type Libc, libc } from './libc.ts';

const CLONE_NEWNET = 0x40000000;

/**
 * Other network namespaces, to open sockets in. A socket stays in the namespace it was made in, so being there for the time
 * of one call is enough: nothing else runs on this thread meanwhile, and no other thread moves (setns(2)).
 */
export class NetworkNamespaces {
  readonly libc: Libc;
  /** A descriptor of the namespace this process is in. */
  readonly own: number;

  private constructor(c: Libc, own: number) {
    this.libc = c;
    this.own = own;
  }

  /** @throws when the FFI library cannot be loaded, or /proc is not there */
  static async open(): Promise<NetworkNamespaces> {
    return new NetworkNamespaces(await libc(), openSync('/proc/thread-self/ns/net', constants.O_RDONLY));
  }

  /**
   * @param path of a namespace (`/run/netns/NAME`, `/proc/PID/ns/net`)
   * @param act runs in it, to its end: what it does later it does at home
   * @throws KernelError where it cannot be entered: EPERM without CAP_SYS_ADMIN, EINVAL where the file is no network namespace;
   * the error of open(2) where it is gone
   */
  inside<T>(path: string, act: (c: Libc) => T extends PromiseLike<unknown> ? never : T): T {
    // A file that is none may be a pipe, which would hold us.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (this.libc.setns(fd, CLONE_NEWNET) < 0) throw new KernelError(`network namespace ${path}`, this.libc.errno());
    } finally {
      closeSync(fd);
    }
    try {
      return act(this.libc);
    } finally {
      // Who cannot go home must not go on: rules would be written in somebody else's namespace.
      if (this.libc.setns(this.own, CLONE_NEWNET) < 0) process.abort();
    }
  }

  close(): void {
    closeSync(this.own);
  }
}
