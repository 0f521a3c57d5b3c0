import { readFileSync, readdirSync } from 'node:fs';

/** What a process has used since it started, as /proc tells. */
export interface ProcessCost {
  readonly atMs: number;
  /** Of all its threads. */
  readonly cpuMs: number;
  /** Of the children that have ended, in steps of 10 ms. */
  readonly childrenCpuMs: number;
  /** Pages that ended children touched: hundreds for the smallest of programs, so that none was started when this stands still. */
  readonly childrenFaults: number;
  /** How often it gave the CPU away to wait for something. */
  readonly switches: number;
}

export function costOf(pid: number): ProcessCost {
  // After the name, which may hold anything: field 3 is the first.
  const fields = /\) (.*)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]?.split(' ') ?? [];
  const field = (number: number): number => Number(fields[number - 3]);
  const threads = readdirSync(`/proc/${pid}/task`).map((name) => `/proc/${pid}/task/${name}`);
  const sum = (of: (thread: string) => number): number => threads.reduce((total, thread) => total + of(thread), 0);
  return {
    atMs: performance.now(),
    // Nanoseconds, where `stat` counts in hundredths of a second.
    cpuMs: sum((thread) => Number(readFileSync(`${thread}/schedstat`, 'utf8').split(' ')[0])) / 1e6,
    childrenCpuMs: (field(16) + field(17)) * 10,
    childrenFaults: field(11),
    switches: sum((thread) => Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(readFileSync(`${thread}/status`, 'utf8'))?.[1])),
  };
}

/** Memory that is the process's own. Most of what `VmRSS` counts is Node's text, which all Nodes of a machine share. */
export const rssAnonMiB = (pid: number): number => Number(/^RssAnon:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

export const mibText = (mib: number): string => `${mib.toFixed(1)} MiB`;
