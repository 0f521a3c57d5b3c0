import { closeSync, openSync, readSync, readlinkSync } from 'node:fs';
import { type Place, placeOf } from '../core/watch/cgroup.ts';
import { type ProcStat, parseStat } from '../core/watch/proc-stat.ts';
import type { Culprit } from '../core/watch-status.ts';
import { visible } from '../core/visible.ts';

export interface CulpritSources {
  /**
   * The kernel names a process by its number in the first pid namespace. Our /proc shows those only on the host and in a
   * pod with hostPID; anywhere else a number would be somebody else's.
   */
  readonly pidsAreTheKernels: boolean;
  /** The beginning of a file of /proc; throws when there is none. */
  read?(path: string): Buffer;
}

/**
 * What is known of a process that the kernel has just named. It mostly lives for some milliseconds more, so this is called
 * at once and asks nobody but /proc. A number may have a new owner by now: what was read counts only if the name and
 * the start were the same before and after. Otherwise name and number stay what they are, the kernel's word.
 *
 * `name` as the kernel gave it, a character for each byte (latin1).
 */
export function culpritOf(name: string, pid: number, { pidsAreTheKernels, read = readStart }: CulpritSources): Culprit {
  const known: Culprit = { name: readable(name), pid };
  if (!pidsAreTheKernels || pid <= 0) return known;
  try {
    return { ...known, ...describe(name, `/proc/${pid}`, read) };
  } catch {
    return known; // It has ended meanwhile.
  }
}

/** Whether a process lives, and in our network namespace: it is not asked about what was done in another. */
export function isInOurNetwork(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync('/proc/self/ns/net');
  } catch {
    return false;
  }
}

type Read = NonNullable<CulpritSources['read']>;

function describe(name: string, process: string, read: Read): Culprit {
  const stat = statOf(process, read);
  if (stat === undefined || nameOf(process, read) !== name) return {};
  const commandLine = commandLineOf(process, read);
  const place = placeOf(read(`${process}/cgroup`).toString());
  const parent = parentOf(process, stat, read);
  if (nameOf(process, read) !== name || !isSame(stat, statOf(process, read))) return {};
  const { container, podUid } = isNowhere(place) ? (parent?.place ?? {}) : place;
  return {
    ...(commandLine === '' ? {} : { commandLine }),
    ...(parent === undefined ? {} : { parent: readable(parent.name) }),
    ...(container === undefined ? {} : { container }),
    ...(podUid === undefined ? {} : { podUid }),
  };
}

/** Who started it. Process 1 takes orphans in, so being its child says nothing. */
function parentOf(process: string, child: ProcStat, read: Read): { readonly name: string; readonly place: Place } | undefined {
  if (child.parentPid <= 1) return undefined;
  const parent = `/proc/${child.parentPid}`;
  try {
    const stat = statOf(parent, read);
    if (stat === undefined || stat.startTicks > child.startTicks) return undefined;
    const [name, place] = [nameOf(parent, read), placeOf(read(`${parent}/cgroup`).toString())];
    // A parent that is still the parent has been alive all the while, so its number was its own.
    return isSame(stat, statOf(parent, read)) && statOf(process, read)?.parentPid === child.parentPid ? { name, place } : undefined;
  } catch {
    return undefined;
  }
}

const nameOf = (process: string, read: Read): string => read(`${process}/comm`).toString('latin1').replace(/\n$/, '');

const readable = (name: string): string => visible(Buffer.from(name, 'latin1').toString());

const statOf = (process: string, read: Read): ProcStat | undefined => parseStat(read(`${process}/stat`).toString());

/** Not the parent's number, which changes when the parent dies first. */
const isSame = (one: ProcStat, other: ProcStat | undefined): boolean => other?.startTicks === one.startTicks;

const isNowhere = ({ container, podUid }: Place): boolean => container === undefined && podUid === undefined;

/** `iptables-nft-restore -w 5 --noflush`: arguments end in NUL. Empty for a kernel thread, and for one that has ended. */
function commandLineOf(process: string, read: Read): string {
  const bytes = read(`${process}/cmdline`);
  const text = visible(bytes.subarray(0, COMMAND_LINE_BYTES).toString().replaceAll('\0', ' ').trimEnd());
  return bytes.length > COMMAND_LINE_BYTES ? `${text}…` : text;
}

const COMMAND_LINE_BYTES = 300;

/** Enough for the lines of every controller of cgroup v1; a command line may be two megabytes long. */
const ROOM = Buffer.alloc(16 * 1024);

function readStart(path: string): Buffer {
  const fd = openSync(path, 'r');
  try {
    return Buffer.from(ROOM.subarray(0, readSync(fd, ROOM)));
  } finally {
    closeSync(fd);
  }
}
