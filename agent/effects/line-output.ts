import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';

/**
 * Lines to a file descriptor, written when they are given: what a process said before it died is there. What cannot be
 * written (a full disk, a pipe that nobody reads or holds any more) is dropped and counted, without a throw, and the next
 * line is tried again. A line that was cut in the middle is finished before another begins.
 */
export class LineOutput {
  readonly #fd: number;
  readonly #isOurs: boolean;
  #unfinished: Buffer = Buffer.alloc(0);
  #isClosed = false;
  droppedLines = 0;

  constructor(fd: number) {
    const own = withoutWaiting(fd);
    this.#isOurs = own !== undefined;
    this.#fd = own ?? fd;
  }

  write(line: string): void {
    // After the end the descriptor may be somebody else's.
    if (this.#isClosed || !this.#finish() || !this.#begin(Buffer.from(line))) this.droppedLines += 1;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#finish();
    this.#isClosed = true;
    if (this.#isOurs) closeSync(this.#fd);
  }

  #finish(): boolean {
    this.#unfinished = this.#unfinished.subarray(this.#send(this.#unfinished));
    return this.#unfinished.length === 0;
  }

  #begin(line: Buffer): boolean {
    const sent = this.#send(line);
    if (sent > 0) this.#unfinished = line.subarray(sent);
    return sent > 0;
  }

  /** How many bytes could be written. */
  #send(bytes: Buffer): number {
    let sent = 0;
    try {
      while (sent < bytes.length) {
        const now = writeSync(this.#fd, bytes, sent);
        if (now === 0) break;
        sent += now;
      }
    } catch {
      // ENOSPC, EPIPE, EAGAIN, EIO, EBADF: all the same to a line.
    }
    return sent;
  }
}

/**
 * A pipe that is full makes its writer wait, and a daemon that waits for the reader of its log keeps no rules. The flag
 * against it belongs to the open file, which other processes have too (2>&1): so the pipe is opened once more, as our own.
 * Where that is not possible (a socket of journald: ENXIO) the descriptor is used as it is.
 */
function withoutWaiting(fd: number): number | undefined {
  try {
    return fstatSync(fd).isFIFO() ? openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK) : undefined;
  } catch {
    return undefined;
  }
}
