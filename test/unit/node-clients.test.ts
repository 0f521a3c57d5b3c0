import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { cgroupPaths } from '../../agent/effects/cgroup-paths.ts';
import { imdsConnections } from '../../agent/effects/imds-connections.ts';

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'imds-guard-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}
function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

t.test('a cgroup has its path by the number of its folder', async (t) => {
  const mount = folder(t);
  write(join(mount, 'cgroup.procs'), '');
  mkdirSync(join(mount, 'a/b/c/d/e'), { recursive: true });
  const numberOf = (path: string): string => String(statSync(join(mount, path)).ino);
  const { paths, outOfSight } = cgroupPaths(['', 'a/b', 'a/b/c/d', 'a/b/c/d/e'].map(numberOf).concat('1234567890123'), ['/nowhere', mount]);
  t.same([...paths.values()].sort(), ['/', '/a/b', '/a/b/c/d'], 'no rule counts by what is deeper');
  t.equal(outOfSight, undefined);
  t.same(cgroupPaths([], ['/nowhere']), { paths: new Map() }, 'where nobody was counted nothing is looked at');
});

t.test('where cgroups are not in sight, or a part of them is, that is said', async (t) => {
  const mount = folder(t);
  t.match(cgroupPaths(['1'], [mount, '/nowhere']), { outOfSight: `there is no cgroup v2 at ${mount} or /nowhere` });
  write(join(mount, 'cgroup.procs'), '');
  // Every cgroup but the first has this file: what is mounted here is the inside of a cgroup namespace.
  write(join(mount, 'cgroup.events'), 'populated 1\n');
  t.match(cgroupPaths(['1'], [mount]), { outOfSight: `${mount} shows a part of the node's cgroups` });
});

t.test('who has a connection to IMDS is found by its sockets', async (t) => {
  const proc = folder(t);
  const line = (remote: string, inode: number): string => `   0: 0A00000A:C350 ${remote} 01 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1\n`;
  write(join(proc, 'net/tcp'), line('FEA9FEA9:0050', 77) + line('0100007F:0050', 78));
  for (const [pid, inode, name] of [[41, 77, 'kubelet'], [42, 78, 'other'], [43, 77, 'x\x1b[2J']] as const) {
    write(join(proc, `${pid}/comm`), `${name}\n`);
    write(join(proc, `${pid}/cgroup`), '0::/system.slice/kubelet.service\n');
    mkdirSync(join(proc, `${pid}/fd`));
    symlinkSync('/dev/null', join(proc, `${pid}/fd/0`));
    symlinkSync(`socket:[${inode}]`, join(proc, `${pid}/fd/3`));
  }
  mkdirSync(join(proc, '44')); // It ends just now.
  const cgroup = '0::/system.slice/kubelet.service\n';
  t.same(imdsConnections(proc).sort((a, b) => a.pid - b.pid), [{ pid: 41, name: 'kubelet', cgroup }, { pid: 43, name: 'x\\x1b[2J', cgroup }]);
  t.same(imdsConnections(join(proc, 'nothing')), []);
});
