import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { socketsToImds } from '../core/clients/connections.ts';
import type { NodeProcess } from '../core/clients/node-clients.ts';
import { visible } from '../core/visible.ts';
import { readText } from './read-text.ts';

/**
 * Processes in our own network namespace that have a connection to IMDS now. Mostly there is none, and then nothing but two
 * files is read. What may not be looked at, or has ended meanwhile, is not in the list.
 */
export function imdsConnections(proc = '/proc'): NodeProcess[] {
  const sockets = new Set(['tcp', 'tcp6'].flatMap((table) => [...socketsToImds(readText(`${proc}/net/${table}`))]));
  if (sockets.size === 0) return [];
  const isOne = (target: string): boolean => sockets.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? '');
  return attempt(() => readdirSync(proc), []).filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    const descriptors = attempt(() => readdirSync(`${proc}/${pid}/fd`), []);
    if (!descriptors.some((fd) => isOne(attempt(() => readlinkSync(`${proc}/${pid}/fd/${fd}`), '')))) return [];
    return attempt(() => [{ pid: Number(pid), name: visible(readFileSync(`${proc}/${pid}/comm`, 'utf8').replace(/\n$/, '')), cgroup: readFileSync(`${proc}/${pid}/cgroup`, 'utf8') }], []);
  });
}

function attempt<T>(look: () => T, otherwise: T): T {
  try {
    return look();
  } catch {
    return otherwise;
  }
}
