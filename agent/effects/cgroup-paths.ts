import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Cgroups } from '../core/clients/node-clients.ts';
import { CGROUP_LEVELS } from '../core/guard-table.ts';

/** Where cgroup v2 is: alone, or beside v1. */
const MOUNTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/**
 * The kernel numbers a cgroup by the inode of its folder. Folders are walked until all that were asked for are found, and no deeper
 * than the rules count: whoever is in a container may have made thousands below.
 */
export function cgroupPaths(numbers: readonly string[], mounts: readonly string[] = MOUNTS): Cgroups {
  const paths = new Map<string, string>();
  if (numbers.length === 0) return { paths };
  const mount = mounts.find((path) => existsSync(join(path, 'cgroup.procs')));
  if (mount === undefined) return { paths, outOfSight: `there is no cgroup v2 at ${mounts.join(' or ')}` };
  walk(mount, '/', Math.max(...CGROUP_LEVELS), new Set(numbers), paths);
  // Only the root has no such file: in a container with a cgroup namespace the rest of the node is out of sight.
  const isPart = existsSync(join(mount, 'cgroup.events'));
  return { paths, ...(isPart ? { outOfSight: `${mount} shows a part of the node's cgroups` } : {}) };
}

function walk(mount: string, path: string, levels: number, wanted: ReadonlySet<string>, found: Map<string, string>): void {
  try {
    const number = String(statSync(join(mount, path), { bigint: true }).ino);
    if (wanted.has(number)) found.set(number, path);
    if (found.size === wanted.size || levels === 0) return;
    for (const entry of readdirSync(join(mount, path), { withFileTypes: true })) if (entry.isDirectory()) walk(mount, join(path, entry.name), levels - 1, wanted, found);
  } catch {
    // It ended while it was looked at.
  }
}
