// The executable on a node of the lab: what it does to pods, and what becomes of the native library that it carries.
import t from 'tap';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Report } from '../../agent/core/report.ts';
import { startDaemon } from '../lab/daemon.ts';
import { type Lab, makeLab } from '../lab/lab.ts';
import { dies, iptables, passes } from '../kernel/guard.ts';
import { among } from '../kernel/surroundings.ts';
import { executable, noExecutable } from './executables.ts';

t.setTimeout(120_000);
const skip = noExecutable;
const DIRECTORIES = ['/run', '/dev/shm', '/tmp', '/var/tmp'];
/** Where none of the mounts below hides it, nor where it was called. */
const inMnt = `cd /; mount -t tmpfs tmpfs /mnt; touch /mnt/imds-guard; mount --bind '${executable}' /mnt/imds-guard`;

const what = async (lab: Lab, args: readonly string[], before: readonly string[] = []) => {
  const [file = '', ...rest] = [...before, executable, ...args];
  return lab.exec(lab.node, file, rest, { timeoutMs: 60_000 });
};
const said = async (lab: Lab, args: readonly string[]) => {
  const { exitCode, stdout, stderr } = await what(lab, [...args, '--output', 'json']);
  t.equal(stderr, '', args.join(' '));
  return { exitCode, value: JSON.parse(stdout) as Report };
};
/** What lies in the directories that the library may be loaded from. Others make files there too. */
const ours = (): string[] => DIRECTORIES.flatMap((directory) => readdirSync(directory).map((name) => join(directory, name))).filter((name) => /koffi|\.node$/.test(name));

t.test('apply, check, probe and remove do what they do', { skip }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan' } });
  t.teardown(lab.remove);
  t.ok(await passes(lab, lab.pods.web));
  t.match(await said(lab, ['check']), { exitCode: 1, value: { answer: 'open', observed: { state: 'tried' } } }, 'with packets, for which it needs its library');
  t.match(await said(lab, ['apply']), { exitCode: 0, value: { answer: 'blocked', problems: [], left: [] } });
  for (const pod of Object.values(lab.pods)) t.ok(await dies(lab, pod), pod.name);
  t.match(await said(lab, ['check']), { exitCode: 0, value: { answer: 'blocked', basis: ['rules', 'packets'] } });
  t.match(await said(lab, ['probe']), { exitCode: 0, value: { answer: 'blocked', reason: 'EveryProbeDied', found: 2 } });
  t.match(await what(lab, ['clients', '--output', 'json']), { exitCode: 0, stderr: '' });
  t.match(await said(lab, ['remove']), { exitCode: 0 });
  t.ok(await passes(lab, lab.pods.web));
  t.same(ours(), [], 'no library was left behind');
});

t.test('the daemon goes on when its file is moved, replaced and deleted', { skip }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const place = mkdtempSync('/run/executable-');
  const [program, moved] = [join(place, 'imds-guard'), join(place, 'moved')];
  copyFileSync(executable, program);
  const daemon = startDaemon(lab, ['--log-level', 'debug'], { program });
  t.teardown(daemon.stop);
  await daemon.ready();
  t.ok(await dies(lab, lab.pods.web));

  const deeds = [
    ['moved', () => renameSync(program, moved)],
    ['replaced', () => writeFileSync(program, '#!/bin/sh\necho somebody else\n', { mode: 0o755 })],
    ['deleted', () => rmSync(moved)],
  ] as const;
  for (const [how, deed] of deeds) {
    const { counts: before } = await daemon.status();
    deed();
    await iptables(lab, 'nft', '-t mangle -F FORWARD');
    const { counts, answer } = await daemon.statusThat(({ counts: { checks } }) => checks.blocked > before.checks.blocked || checks.failed > 0);
    t.match({ answer, failed: counts.checks.failed }, { answer: 'blocked', failed: 0 }, `${how}: it looks by itself`);
  }
  t.match(readFileSync(`/proc/${daemon.pid}/maps`, 'utf8'), / \/\S+\/#\d+ \(deleted\)$/m, 'its library is a file without a name');
  t.notMatch(readFileSync(`/proc/${daemon.pid}/maps`, 'utf8'), /koffi/);
  await daemon.stop();
  t.match(await daemon.ended, { exitCode: 0, stderr: '' });
  t.ok(await dies(lab, lab.pods.web));
  t.same(ours(), []);
});

t.test("its library comes from no directory but root's, and from any of those where it may be loaded", { skip }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  /** With each directory mounted anew. */
  const probe = async (options: Readonly<Record<string, string>>): Promise<string> => {
    const mounts = Object.entries(options).map(([directory, how]) => (directory === '/run' ? `mount -o remount,${how} /run` : `mount -t tmpfs -o ${how} tmpfs ${directory}`));
    const before = among([inMnt, ...mounts].join('\n'));
    const [file = '', ...args] = [...before, '/mnt/imds-guard', 'probe', '--output', 'json'];
    const { stdout, stderr } = await lab.exec(lab.node, file, args, { timeoutMs: 60_000 });
    return stdout + stderr;
  };
  const all = (how: string): Readonly<Record<string, string>> => ({ '/run': 'noexec', '/dev/shm': how, '/tmp': how, '/var/tmp': how });
  const loaded = /"found": 1,/;
  t.match(await probe({}), loaded);
  for (const how of ['noexec', 'uid=1000,mode=755', 'mode=777']) t.match(await probe({ ...all(how), '/var/tmp': 'mode=1777' }), loaded, `all ${how} but the last`);
  for (const [how, because] of [
    ['noexec', /\/tmp: [^;]*failed to map segment/],
    ['uid=1000,mode=755', /\/tmp: belongs to user 1000/],
    ['mode=777', /\/tmp: others may write there/],
  ] as const) {
    const told = await probe(all(how));
    t.notMatch(told, loaded, how);
    t.match(told, /no directory to load koffi's library from/, how);
    t.match(told, because, how);
  }
});

t.test('a link in the place of a directory is not followed', { skip }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const elsewhere = mkdtempSync('/run/elsewhere-');
  const before = among(`${inMnt}
mount -o remount,noexec /run
mount -t tmpfs tmpfs /dev; mknod /dev/null c 1 3; mknod /dev/urandom c 1 9; ln -s ${elsewhere} /dev/shm
mount -t tmpfs -o uid=1000 tmpfs /tmp; mount -t tmpfs -o uid=1000 tmpfs /var/tmp`);
  const [file = '', ...args] = [...before, '/mnt/imds-guard', 'probe', '--output', 'json'];
  const { stdout, stderr } = await lab.exec(lab.node, file, args, { timeoutMs: 60_000 });
  t.match(stdout + stderr, /\/dev\/shm: no directory/);
  t.same(readdirSync(elsewhere), []);
});

t.test('where it can be loaded from nowhere, the daemon says so, looks every half minute, and pods are blocked', { skip }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const before = among(`${inMnt}
mount -o remount,noexec /run
for directory in ${DIRECTORIES.slice(1).join(' ')}; do mount -t tmpfs -o noexec tmpfs $directory; done`);
  const daemon = startDaemon(lab, [], { before, program: '/mnt/imds-guard' });
  t.teardown(daemon.stop);
  await daemon.ready();
  t.match(await daemon.status(), { events: { state: 'polling', because: /no directory to load koffi's library from/ }, guard: { state: 'absent' }, provedBlocked: true });
  t.ok(await dies(lab, lab.pods.web));
});
