import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import type { Family } from 'node-iptables';
import { legacyTablesFile } from 'node-iptables/exec';

/**
 * /proc/net/ip_tables_names, asked for several times a second for as long as the node lives: so it is kept open and read again
 * from its start, for a third of the price. Only there while the kernel's module is.
 */
export class LegacyNames {
  private readonly path: string;
  private fd: number | undefined;

  constructor(family: Family, procNet: string) {
    this.path = legacyTablesFile(family, procNet);
  }

  /** @throws when the file is there and may not be read: it is for root of the network namespace */
  read(): readonly string[] {
    if (this.fd === undefined && !existsSync(this.path)) return [];
    this.fd ??= openSync(this.path, 'r');
    try {
      return ROOM.toString('latin1', 0, readSync(this.fd, ROOM, 0, ROOM.length, 0)).split('\n').filter((name) => name !== '');
    } catch (error) {
      // The module was unloaded: this descriptor reads nothing any more, even if it is loaded again.
      this.close();
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
      return [];
    }
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }
}

/** There are five tables. */
const ROOM = Buffer.alloc(4096);
