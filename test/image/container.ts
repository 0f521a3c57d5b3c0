// The image as a container on the lab's node, as containerd would run it there: by runc, with what the manifest says and nothing else.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { Execed, Lab } from '../lab/lab.ts';
import { type Daemon, startDaemon } from '../lab/daemon.ts';
import type { Image } from './image.ts';
import type { ManifestContainer, ManifestPod } from './manifest.ts';
import { runtimeDefault } from './seccomp.ts';

export interface Containers {
  /** Runs a container to its end: of the manifest's arguments, or of others. */
  run(pod: ManifestPod, args?: readonly string[], options?: ContainerOptions): Promise<Execed>;
  /** Runs `watch` until it is stopped. */
  watch(pod: ManifestPod, options?: ContainerOptions): Daemon;
  /** Where a path of the node lies: nothing of this machine but /run/netns is shown to a container. */
  onNode(path: string): string;
  remove(): void;
}
export interface ContainerOptions {
  /** Words before runc, to run it among other processes. */
  readonly before?: readonly string[];
  /** Stronger than the manifest's. */
  readonly env?: Readonly<Record<string, string>>;
  /** A folder with the files that a kubelet puts beside a container for its ServiceAccount. */
  readonly serviceAccount?: string;
  /** Not the image's entrypoint. */
  readonly entrypoint?: readonly string[];
}

let containers = 0;

/** /run is a private tmpfs here (test/run.ts): what is made there is gone with the tests. */
export function containersOn(lab: Lab, image: Image): Containers {
  const place = mkdtempSync('/run/containers-');
  const node = join(place, 'node');
  const names: string[] = [];
  const mounted: string[] = [];
  const runc = ['runc', '--root', join(place, 'runc')] as const;
  // `ip netns exec` puts a new /sys over the machine's, and runc wants the cgroups that were there.
  const cgroups = join(place, 'cgroups');
  mkdirSync(cgroups);
  must('mount', '--rbind', '/sys/fs/cgroup', cgroups);
  mounted.push(cgroups);
  const withCgroups = ['sh', '-ec', `mount --rbind ${cgroups} /sys/fs/cgroup; exec "$@"`, 'sh'] as const;

  const onNode = (path: string): string => (path === '/run/netns' ? path : join(node, path));

  function make(pod: ManifestPod, container: ManifestContainer, args: readonly string[], { before = [], env = {}, serviceAccount, entrypoint }: ContainerOptions): readonly string[] {
    containers += 1;
    const name = `imds-guard-${process.pid}-${containers}`;
    const bundle = join(place, name);
    for (const folder of ['upper', 'work', 'root']) mkdirSync(join(bundle, folder), { recursive: true });
    must('mount', '-t', 'overlay', '-o', `lowerdir=${image.root},upperdir=${join(bundle, 'upper')},workdir=${join(bundle, 'work')}`, 'overlay', join(bundle, 'root'));
    mounted.push(join(bundle, 'root'));
    for (const volume of pod.volumes) makeOnNode(onNode(volume.hostPath.path), volume.hostPath.type);
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf(pod, container, [...(entrypoint ?? container.command ?? image.config.Entrypoint), ...args], [...image.config.Env, ...environmentOf(container), ...Object.entries(env).map(([key, value]) => `${key}=${value}`)], onNode, serviceAccount)));
    names.push(name);
    return [...before, ...withCgroups, ...runc, 'run', '--bundle', bundle, name];
  }
  const only = (pod: ManifestPod): ManifestContainer => (pod.initContainers ?? pod.containers)[0] as ManifestContainer;

  return {
    run: (pod, args, options = {}) => {
      const [file = '', ...words] = make(pod, only(pod), args ?? only(pod).args ?? [], options);
      return lab.exec(lab.node, file, words, { timeoutMs: 90_000 });
    },
    // The daemon's handle knows how to start the program alone; runc stands in its place.
    watch: (pod, options = {}) => startDaemon(lab, [], { before: ['sh', '-ec', `exec ${make(pod, only(pod), only(pod).args ?? [], options).map(quoted).join(' ')}`, 'instead of'] }),
    onNode,
    remove: () => {
      for (const name of names) spawnSync(runc[0], [...runc.slice(1), 'delete', '--force', name]);
      for (const path of mounted) spawnSync('umount', ['--lazy', path]);
    },
  };
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

function must(file: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(file, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${error?.message ?? stderr}`);
}

/** As a kubelet does before it mounts. */
function makeOnNode(path: string, type: string): void {
  if (type === 'FileOrCreate') {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, '', { flag: 'a', mode: 0o644 });
  } else if (type === 'DirectoryOrCreate') mkdirSync(path, { recursive: true, mode: 0o755 });
  else throw new Error(`a volume of type ${type} is not known here`);
}

const environmentOf = ({ env = [] }: ManifestContainer): string[] =>
  env.map(({ name, value, valueFrom }) => {
    if (valueFrom !== undefined && valueFrom.fieldRef.fieldPath !== 'spec.nodeName') throw new Error(`${valueFrom.fieldRef.fieldPath} is not known here`);
    return `${name}=${valueFrom === undefined ? value : 'lab-node'}`;
  });

/** What containerd makes of it (pkg/oci, internal/cri/opts), as far as it matters here. */
function configOf(pod: ManifestPod, container: ManifestContainer, args: readonly string[], env: readonly string[], onNode: (path: string) => string, serviceAccount: string | undefined): object {
  const { securityContext: security, volumeMounts = [] } = container;
  if (security.capabilities.drop.join() !== 'ALL' || security.privileged || security.seccompProfile.type !== 'RuntimeDefault') throw new Error('a container that keeps what runtimes give is not known here');
  const capabilities = (security.capabilities.add ?? []).map(name => `CAP_${name}`);
  const effective = security.runAsUser === 0 ? capabilities : [];
  const mount = (destination: string, type: string, ...options: readonly string[]): object => ({ destination, type, source: type, options });
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: security.runAsUser, gid: security.runAsUser },
      args,
      env,
      cwd: '/',
      noNewPrivileges: !security.allowPrivilegeEscalation,
      capabilities: { bounding: capabilities, effective, permitted: effective },
    },
    root: { path: 'root', readonly: security.readOnlyRootFilesystem },
    hostname: 'lab-node',
    mounts: [
      mount('/proc', 'proc', 'nosuid', 'noexec', 'nodev'),
      mount('/dev', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
      mount('/dev/pts', 'devpts', 'nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'),
      mount('/dev/shm', 'tmpfs', 'nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
      mount('/sys', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'),
      ...volumeMounts.map(({ name, mountPath, readOnly, mountPropagation }) => ({
        destination: mountPath,
        type: 'bind',
        source: onNode(pod.volumes.find(volume => volume.name === name)?.hostPath.path ?? ''),
        options: ['rbind', mountPropagation === 'HostToContainer' ? 'rslave' : 'rprivate', readOnly ? 'ro' : 'rw'],
      })),
      ...(serviceAccount === undefined ? [] : [{ destination: '/var/run/secrets/kubernetes.io/serviceaccount', type: 'bind', source: serviceAccount, options: ['rbind', 'ro'] }]),
    ],
    linux: {
      // Without a namespace of a kind it stays where runc was started: in the node's network, among the node's processes.
      namespaces: ['mount', 'ipc', 'uts', ...(pod.hostNetwork ? [] : ['network']), ...(pod.hostPID ? [] : ['pid'])].map(type => ({ type })),
      seccomp: runtimeDefault(capabilities),
      resources: { devices: [{ allow: false, access: 'rwm' }], memory: { limit: bytesOf(container.resources.limits.memory) } },
      maskedPaths: ['/proc/acpi', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats', '/proc/sched_debug', '/proc/scsi', '/sys/firmware'],
      readonlyPaths: ['/proc/asound', '/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

function bytesOf(quantity: string): number {
  const [, number, unit] = /^(\d+)(Mi)$/.exec(quantity) ?? [];
  if (unit === undefined) throw new Error(`${quantity} is not known here`);
  return Number(number) * 2 ** 20;
}
