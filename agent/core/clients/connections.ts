/** Sockets of a table like /proc/net/tcp and tcp6 that are connected to IMDS, by their inode. */
export const socketsToImds = (table: string): ReadonlySet<string> =>
  new Set(
    table.split('\n').flatMap((line) => {
      const [, , remote = '', , , , , , , inode = ''] = line.trim().split(/\s+/);
      // A socket that waits for its end (TIME_WAIT) has no owner any more, and the inode 0.
      return IMDS_IN_HEX.has(remote.toUpperCase()) && inode !== '0' ? [inode] : [];
    }),
  );

/** 169.254.169.254, the same as an IPv6 socket has it, and fd00:ec2::254: words in the order of a little-endian machine, and port 80. */
const IMDS_IN_HEX: ReadonlySet<string> = new Set(['FEA9FEA9:0050', '0000000000000000FFFF0000FEA9FEA9:0050', 'C20E00FD000000000000000054020000:0050']);
