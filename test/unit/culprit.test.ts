import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import t, { type Test } from 'tap';
import { placeOf } from '../../agent/core/watch/cgroup.ts';
import { parseStat } from '../../agent/core/watch/proc-stat.ts';
import { culpritOf } from '../../agent/effects/culprit.ts';

const uid = '0f5c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b';
const slice = uid.replaceAll('-', '_');
const id = '4be2f0d1'.repeat(8);
const other = 'c0ffee00'.repeat(8);
const both = { container: id, podUid: uid };

t.test('a container and its pod are found in the cgroups of every runtime', async (t) => {
  const paths: Readonly<Record<string, string>> = {
    'containerd, systemd': `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${slice}.slice/cri-containerd-${id}.scope`,
    'containerd, guaranteed': `0::/kubepods.slice/kubepods-pod${slice}.slice/cri-containerd-${id}.scope`,
    'containerd, cgroupfs': `0::/kubepods/besteffort/pod${uid}/${id}`,
    'containerd with kubelet of another mind': `0::/system.slice/containerd.service/kubepods-burstable-pod${slice}.slice:cri-containerd:${id}`,
    'CRI-O': `0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${slice}.slice/crio-${id}.scope`,
    'CRI-O, a level below': `0::/kubepods.slice/kubepods-pod${slice}.slice/crio-${id}.scope/container`,
    'docker, systemd': `0::/kubepods.slice/kubepods-pod${slice}.slice/docker-${id}.scope`,
    'seen from another container': `0::/../../kubepods-besteffort-pod${slice}.slice/cri-containerd-${id}.scope`,
    'of a pod that is being removed': `0::/kubepods/pod${uid}/${id} (deleted)`,
    'v1': `12:cpuset:/kubepods/pod${uid}/${id}\n11:cpu,cpuacct:/kubepods/pod${uid}/${id}\n1:name=systemd:/kubepods/pod${uid}/${id}\n0::/\n`,
    'a node that is a container (kind)': `0::/docker/${other}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${slice}.slice/cri-containerd-${id}.scope`,
    'docker in a pod': `0::/kubepods/burstable/pod${uid}/${id}/docker/${other}`,
    'a pod that was made up inside of it': `0::/kubepods/pod${uid}/${id}/kubepods/pod${uid.replace('0', '1')}/${other}`,
  };
  for (const [runtime, text] of Object.entries(paths)) t.same(placeOf(text), both, runtime);
});

t.test('parts of it, where there is no more', async (t) => {
  t.same(placeOf(`0::/system.slice/docker-${id}.scope`), { container: id });
  t.same(placeOf(`0::/../cri-containerd-${id}.scope`), { container: id }, 'a container of our own pod');
  t.same(placeOf(`0::/kubepods.slice/kubepods-pod${slice}.slice`), { podUid: uid });
  t.same(placeOf(`0::/kubepods/pod${'ab12'.repeat(8)}/${id}`), { container: id, podUid: 'ab12'.repeat(8) }, 'a static pod');
  t.same(placeOf(`0::/kubepods.slice/kubepods-pod${slice}.slice/crio-conmon-${id}.scope`), { podUid: uid }, 'the process that watches the container');
});

t.test('a process of the node is in none', async (t) => {
  for (const text of ['', '0::/\n', '0::/system.slice/kubelet.service\n', '0::/user.slice/podium.slice/session-1.scope', `0::/${id.slice(1)}`, 'nonsense', `/kubepods/pod${uid}/${id}`]) t.same(placeOf(text), {}, text);
});

t.test('lines that contradict each other name nobody', async (t) => {
  t.same(placeOf(`2:cpu:/kubepods/pod${uid}/${id}\n1:memory:/kubepods/pod${uid}/${other}\n`), { podUid: uid });
  t.same(placeOf(`2:cpu:/docker/${id}\n1:memory:/docker/${other}\n`), {});
});

t.test('the name of a process cannot be taken for the fields after it', async (t) => {
  const rest = `S 4124 4124 3124 0 -1 4194304 104 0 0 0 0 0 0 0 20 0 1 0 91537 2998272 418 0\n`;
  for (const name of ['head', 'tmux: server', ') R 1 (', 'a) S 1 1', 'sh)', '', '\n']) t.same(parseStat(`4127 (${name}) ${rest}`), { parentPid: 4124, startTicks: 91537 }, name);
  for (const text of ['', '4127', '4127 (head)', '4127 (head) S', '4127 (head) S x']) t.equal(parseStat(text), undefined, text);
  t.match(parseStat(readFileSync('/proc/self/stat', 'utf8')), { parentPid: process.ppid });
});

/** As the kernel would name it. */
const comm = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'utf8').replace(/\n$/, '');
const here = { pidsAreTheKernels: true };

function start(t: Test, program: string, ...args: string[]): ChildProcess & { readonly pid: number } {
  const child = spawn(program, args, { env: { PATH: process.env['PATH'] }, stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = once(child, 'exit');
  t.teardown(() => (child.kill('SIGKILL'), gone));
  if (child.pid === undefined) throw new Error(`${program} did not start`);
  return child as ChildProcess & { readonly pid: number };
}

t.test('a living process is described', async (t) => {
  const { pid, stdout } = start(t, process.execPath, '-e', 'console.log(1); process.stdin.resume()', '--', '-w 5', 'line\nbreak\x1b[31m');
  await once(stdout!, 'data');
  t.same(culpritOf(comm(pid), pid, here), {
    name: comm(pid),
    pid,
    commandLine: `${process.execPath} -e console.log(1); process.stdin.resume() -- -w 5 line\\x0abreak\\x1b[31m`,
    parent: comm(process.pid),
  });
});

t.test('a long command line is cut', async (t) => {
  const { pid, stdout } = start(t, 'sh', '-c', 'echo; read line', 'x'.repeat(5000));
  await once(stdout!, 'data');
  const { commandLine = '' } = culpritOf('sh', pid, here);
  t.equal(commandLine, `${`sh -c echo; read line ${'x'.repeat(5000)}`.slice(0, 300)}…`);
});

t.test('a thread that the kernel names is described like its process', async (t) => {
  const program = 'import threading, sys\ndef run():\n  open("/proc/thread-self/comm", "w").write("nl) wörker"); print(threading.get_native_id(), flush=True); sys.stdin.read()\nthreading.Thread(target=run).start()';
  const child = start(t, 'python3', '-c', program);
  const [said] = await once(child.stdout!, 'data');
  t.match(culpritOf(Buffer.from('nl) wörker').toString('latin1'), Number(said), here), { name: 'nl) wörker', pid: Number(said), commandLine: /python3.* -c import threading/, parent: comm(process.pid) });
});

t.test('a process that is no more, another one by now, or of other numbers, keeps the name and number that the kernel gave', async (t) => {
  const child = start(t, 'true');
  await once(child, 'exit');
  t.same(culpritOf('true', child.pid, here), { name: 'true', pid: child.pid });
  t.same(culpritOf('iptables', process.pid, here), { name: 'iptables', pid: process.pid });
  t.same(culpritOf(comm(process.pid), process.pid, { pidsAreTheKernels: false }), { name: comm(process.pid), pid: process.pid });
  t.same(culpritOf('a\x1b]0;b', 0, here), { name: 'a\\x1b]0;b', pid: 0 });
});

/** A /proc whose files say one thing after another, the last for ever. */
function proc(files: Readonly<Record<string, readonly string[]>>) {
  const asked = new Map<string, number>();
  return {
    ...here,
    read(path: string): Buffer {
      const file = path.replace('/proc/', '');
      const texts = files[file];
      const at = asked.get(file) ?? 0;
      asked.set(file, at + 1);
      if (texts === undefined) throw new Error(`ENOENT ${basename(path)}`);
      return Buffer.from(texts[Math.min(at, texts.length - 1)]!);
    },
  };
}
const stat = (name: string, parent: number, start: number): string => `1 (${name}) S ${parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 ${start} 0\n`;
const felix = {
  '70/comm': ['iptables-nft-re\n'],
  '70/stat': [stat('iptables-nft-re', 60, 900)],
  '70/cmdline': ['iptables-nft-restore\0--noflush\0'],
  '70/cgroup': [`0::/kubepods/pod${uid}/${id}\n`],
  '60/comm': ['calico-node\n'],
  '60/stat': [stat('calico-node', 50, 100)],
  '60/cgroup': [`0::/kubepods/pod${uid}/${id}\n`],
};
const told = { name: 'iptables-nft-re', pid: 70 };
const ask = (changes: Readonly<Record<string, readonly string[]>>) => culpritOf('iptables-nft-re', 70, proc({ ...felix, ...changes }));

t.test('who started it, and where it lives', async (t) => {
  t.same(ask({}), { ...told, commandLine: 'iptables-nft-restore --noflush', parent: 'calico-node', ...both });
  t.same(ask({ '70/cgroup': ['0::/\n'] }), { ...told, commandLine: 'iptables-nft-restore --noflush', parent: 'calico-node', ...both }, 'in the container of its parent, moved out of the cgroup');
});

t.test('a number that changes hands while it is looked at names nobody else', async (t) => {
  t.same(ask({ '70/stat': [stat('iptables-nft-re', 60, 900), stat('iptables-nft-re', 60, 901)] }), told, 'the same name, a later start');
  t.same(ask({ '70/comm': ['iptables-nft-re\n', 'curl\n'] }), told);
  t.same(ask({ '70/stat': ['nonsense'] }), told);
});

t.test('a parent that is not certain is left out, and its container with it', async (t) => {
  const alone = { ...told, commandLine: 'iptables-nft-restore --noflush' };
  const moved = { '70/cgroup': ['0::/\n'] };
  t.same(ask({ ...moved, '60/stat': [stat('calico-node', 50, 901)] }), alone, 'it started after its child');
  t.same(ask({ ...moved, '60/stat': [stat('calico-node', 50, 100), stat('calico-node', 50, 899)] }), alone, 'its number has changed hands');
  t.same(ask({ ...moved, '70/stat': [stat('iptables-nft-re', 60, 900), stat('iptables-nft-re', 1, 900)] }), alone, 'it died meanwhile');
  t.same(ask({ '70/stat': [stat('iptables-nft-re', 1, 900)] }), { ...alone, ...both }, 'everybody without a parent is a child of process 1');
});
