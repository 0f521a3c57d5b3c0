// An EKS-like node in network namespaces: pods of every kind, an uplink, and IMDS behind it. Real packets, real netfilter;
// nothing leaves the namespaces, and nothing of them stays.
import { execa } from 'execa';
import { openLive, type Live } from './live.ts';
import { forget, remember, removeNow } from './leftovers.ts';
import { hopLimitScript, type HopLimit } from './hop-limit.ts';
import type { Answer, Place, RequestOptions, Seen, Service } from './protocol.ts';
import { startResident, type Resident } from './resident.ts';
import { layOut, wire, type Pod, type PodKind, type PodSpec } from './wiring.ts';

export type { Answer, Behaviour, Place, RequestOptions, Seen, Service } from './protocol.ts';
export type { Pod, PodKind, PodSpec } from './wiring.ts';
export type { Live } from './live.ts';

export interface LabOptions<Name extends string> {
  /** By name: `{ web: 'eni', branch: 'vlan', calico: { kind: 'eni', prefix: 'cali' } }`. */
  readonly pods: Readonly<Record<Name, PodKind | PodSpec>>;
  /** IMDS at fd00:ec2::254 too. On when a pod is `v6`. */
  readonly ipv6?: boolean;
  /** Does IMDS answer without a token? Default true. */
  readonly version1?: boolean;
  /** HttpPutResponseHopLimit; default: none, as if it were 64. */
  readonly hopLimit?: number;
  readonly instanceId?: string;
  /** Of many pods, most are never asked for anything: `when-asked` starts a pod's process with its first request. Default `at-once`. */
  readonly residents?: 'at-once' | 'when-asked';
}

export interface ExecOptions {
  readonly stdin?: string;
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** A program that was started: execa's own handle (stdout, stderr, kill, and await for its end). */
export type Started = ReturnType<typeof spawnIn>;

/** `exitCode` is undefined when a signal ended the process (or the time was up). Nothing is trimmed. */
export interface Execed {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | undefined;
}

export interface Lab<Name extends string = string> {
  /** Names of network namespaces, for exec and `ip -n`. */
  readonly node: string;
  readonly imds: string;
  readonly pods: Readonly<Record<Name, Pod>>;
  /** Runs a program in a namespace; never rejects because of what the program does. */
  exec(namespace: string, file: string, args?: readonly string[], options?: ExecOptions): Promise<Execed>;
  /** The same for a program that goes on running (a daemon). remove() ends it. */
  start(namespace: string, file: string, args?: readonly string[], options?: ExecOptions): Started;
  /** One request to IMDS from a pod's namespace or the node's, on a connection of its own; no process is started. */
  request(from: Pod | 'node', options?: RequestOptions): Promise<Answer>;
  /** A kept-alive connection on which one request has been answered. Rejects when it was not. */
  openLive(from: Pod | 'node', options?: RequestOptions): Promise<Live>;
  /** Changes the hop limit of token answers as ModifyInstanceMetadataOptions would; with pods, of those to these. */
  setHopLimit(hops: HopLimit, ...pods: readonly Pod[]): Promise<void>;
  /** Changes how IMDS answers, from the next request on; what is not named stays. With pods, how it answers these, in all. */
  setService(service: Partial<Service>, ...pods: readonly Pod[]): Promise<void>;
  /** Nothing listens at IMDS any more: its kernel resets whoever comes. */
  closeService(): Promise<void>;
  /** Something that answers as IMDS does, in a namespace where IMDS is not: a mock, or what a proxy leads to. */
  answerAt(where: Pod | 'node', place: Place, service?: Partial<Service>): Promise<void>;
  /** Whatever was made to listen there does no more. */
  closeAt(where: Pod | 'node'): Promise<void>;
  /** A proxy: takes connections and opens one of its own for each. */
  forwardAt(where: Pod | 'node', from: Place, to: Place): Promise<void>;
  /** The requests that arrived at IMDS since the last call: nothing that was blocked is among them. */
  seen(): Promise<readonly Seen[]>;
  remove(): Promise<void>;
}

/** What EC2 does unless it is told otherwise. */
const asEc2: Service = { token: 'ok', metadata: 'ok', version1: true, connection: 'ok' };

const addressesOf = (pod: Pod): string[] => [pod.address4, pod.address6].filter(address => address !== '');

let labs = 0;

/** Takes about a quarter of a second. Needs root, or root in a user namespace with a tmpfs on /run (test/run.ts). */
export async function makeLab<const Name extends string>(options: LabOptions<Name>): Promise<Lab<Name>> {
  labs += 1;
  const prefix = `ig${process.pid}-${labs}`;
  const [node, imds] = [`${prefix}-node`, `${prefix}-imds`];
  const pods = Object.entries<PodKind | PodSpec>(options.pods).map(([name, spec], index) =>
    layOut(name, typeof spec === 'string' ? { kind: spec } : spec, index + 1, `${prefix}-pod${index + 1}`),
  );
  const ipv6 = options.ipv6 ?? pods.some(pod => pod.kind === 'v6');
  const namespaces = [node, imds, ...pods.map(pod => pod.namespace)];
  const residents = new Map<string, Resident>();
  /** By namespace: what else listens somewhere. */
  const servers = new Map<string, Resident>();
  const all = (): Resident[] => [...residents.values(), ...servers.values()];
  const limits = new Map<string, HopLimit>();
  const started = new Set<Started>();

  const removal = { namespaces, processes: () => all().map(resident => resident.process) };
  remember(removal);
  const remove = async (): Promise<void> => {
    await Promise.all([...all().map(resident => resident.dismiss()), ...[...started].map(end)]);
    removeNow(removal);
    forget(removal);
  };

  try {
    await run('ip', ['-batch', '-'], namespaces.map(name => `netns add ${name}\n`).join(''));
    residents.set(imds, startResident('imds-server.ts', imds));
    for (const namespace of namespaces) {
      if (namespace === imds || (namespace !== node && options.residents === 'when-asked')) continue;
      // One of them clears up if this process is killed without a chance to.
      residents.set(namespace, startResident('client.ts', namespace, namespace === node ? { LAB_NAMESPACES: namespaces.join(' ') } : {}));
    }
    const wiring = wire({ node, imds, ipv6, pods });
    const sysctls = Object.entries(wiring.sysctls).map(([key, value]) => `echo ${value} >/proc/sys/${key}`);
    await run('nsenter', [`--net=/run/netns/${node}`, 'sh', '-ec', [...sysctls, 'exec ip -batch -'].join('; ')], wiring.node);
    await Promise.all(wiring.others.map(other => run('ip', ['-n', other.namespace, '-batch', '-'], other.batch)));
    await Promise.all([
      options.hopLimit === undefined ? undefined : setHopLimit(options.hopLimit),
      resident(imds).ask({
        do: 'listen',
        options: {
          addresses: ['169.254.169.254', ...(ipv6 ? ['fd00:ec2::254'] : [])],
          port: 80,
          service: { ...asEc2, version1: options.version1 ?? true },
          instanceId: options.instanceId ?? 'i-0123456789abcdef0',
        },
      }),
    ]);
  } catch (error) {
    await remove();
    throw new Error('the lab could not be built', { cause: error });
  }

  function resident(namespace: string): Resident {
    const found = residents.get(namespace);
    if (found !== undefined) return found;
    if (!namespaces.includes(namespace)) throw new Error(`no namespace ${namespace} in this lab`);
    const late = startResident('client.ts', namespace);
    residents.set(namespace, late);
    return late;
  }
  function server(where: Pod | 'node'): Resident {
    const namespace = where === 'node' ? node : where.namespace;
    const found = servers.get(namespace) ?? startResident('imds-server.ts', namespace);
    servers.set(namespace, found);
    return found;
  }
  async function setHopLimit(hops: HopLimit, ...of: readonly Pod[]): Promise<void> {
    for (const address of of.length === 0 ? [''] : of.flatMap(addressesOf)) limits.set(address, hops);
    await run('nsenter', [`--net=/run/netns/${imds}`, 'nft', '-f', '-'], hopLimitScript(limits));
  }
  const residentOf = (from: Pod | 'node'): Resident => resident(from === 'node' ? node : from.namespace);

  return {
    node,
    imds,
    // Built from the entries of options.pods, so the keys are Name.
    pods: Object.fromEntries(pods.map(pod => [pod.name, pod])) as Record<Name, Pod>,
    exec: async (namespace, file, args = [], execOptions = {}) => {
      const { stdout, stderr, exitCode } = await spawnIn(namespace, file, args, execOptions);
      return { stdout, stderr, exitCode };
    },
    start: (namespace, file, args = [], execOptions = {}) => {
      const subprocess = spawnIn(namespace, file, args, execOptions);
      started.add(subprocess);
      return subprocess;
    },
    request: async (from, requestOptions = {}) => {
      const reply = await residentOf(from).ask({ do: 'request', options: requestOptions });
      if (!('answer' in reply)) throw new Error('a client answered something else');
      return reply.answer;
    },
    openLive: (from, requestOptions = {}) => openLive(residentOf(from), requestOptions),
    setHopLimit,
    setService: async (service, ...of) => {
      await resident(imds).ask({ do: 'serve', service, to: of.length === 0 ? [''] : of.flatMap(addressesOf) });
    },
    closeService: async () => {
      await resident(imds).ask({ do: 'close' });
    },
    answerAt: async (where, { address, port }, service = {}) => {
      await server(where).ask({ do: 'listen', options: { addresses: [address], port, service: { ...asEc2, ...service }, instanceId: 'i-00000000000000bad' } });
    },
    closeAt: async where => {
      await server(where).ask({ do: 'close' });
    },
    forwardAt: async (where, from, to) => {
      await server(where).ask({ do: 'forward', from, to });
    },
    seen: async () => {
      const reply = await resident(imds).ask({ do: 'seen' });
      return 'seen' in reply ? reply.seen : [];
    },
    remove,
  };
}

function spawnIn(namespace: string, file: string, args: readonly string[], options: ExecOptions) {
  return execa('ip', ['netns', 'exec', namespace, file, ...args], {
    // `ip netns exec` gives the program its own /sys, so that /sys/class/net is the namespace's.
    env: { LC_ALL: 'C', ...options.env },
    input: options.stdin ?? '',
    reject: false,
    stripFinalNewline: false,
    timeout: options.timeoutMs ?? 0,
  });
}

async function end(started: Started): Promise<void> {
  started.kill('SIGKILL');
  await started;
}

async function run(file: string, args: readonly string[], input: string): Promise<void> {
  await execa(file, args, { input, env: { LC_ALL: 'C' } });
}
