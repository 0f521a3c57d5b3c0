// An EKS-like node in network namespaces: pods of every kind, an uplink, and IMDS behind it. Real packets, real netfilter;
// nothing leaves the namespaces, and nothing of them stays.
import { execa } from 'execa';
import { openLive, type Live } from './live.ts';
import { forget, remember, removeNow } from './leftovers.ts';
import type { Answer, RequestOptions, Seen } from './protocol.ts';
import { startResident, type Resident } from './resident.ts';
import { layOut, wire, type Pod, type PodKind, type PodSpec } from './wiring.ts';

export type { Answer, RequestOptions, Seen } from './protocol.ts';
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
  /** Changes the hop limit of token answers as ModifyInstanceMetadataOptions would. */
  setHopLimit(hops: number | 'none'): Promise<void>;
  /** The requests that arrived at IMDS since the last call: nothing that was blocked is among them. */
  seen(): Promise<readonly Seen[]>;
  remove(): Promise<void>;
}

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
  const started = new Set<Started>();

  const removal = { namespaces, processes: () => [...residents.values()].map(resident => resident.process) };
  remember(removal);
  const remove = async (): Promise<void> => {
    await Promise.all([...[...residents.values()].map(resident => resident.dismiss()), ...[...started].map(end)]);
    removeNow(removal);
    forget(removal);
  };

  try {
    await run('ip', ['-batch', '-'], namespaces.map(name => `netns add ${name}\n`).join(''));
    residents.set(imds, startResident('imds-server.ts', imds));
    for (const namespace of namespaces) {
      if (namespace === imds) continue;
      // One of them clears up if this process is killed without a chance to.
      residents.set(namespace, startResident('client.ts', namespace, namespace === node ? { LAB_NAMESPACES: namespaces.join(' ') } : {}));
    }
    const wiring = wire({ node, imds, ipv6, pods });
    const sysctls = Object.entries(wiring.sysctls).map(([key, value]) => `echo ${value} >/proc/sys/${key}`);
    await run('nsenter', [`--net=/run/netns/${node}`, 'sh', '-ec', [...sysctls, 'exec ip -batch -'].join('; ')], wiring.node);
    await Promise.all(wiring.others.map(other => run('ip', ['-n', other.namespace, '-batch', '-'], other.batch)));
    await Promise.all([
      options.hopLimit === undefined ? undefined : setHopLimit(imds, options.hopLimit),
      resident(imds).ask({
        do: 'listen',
        options: {
          addresses: ['169.254.169.254', ...(ipv6 ? ['fd00:ec2::254'] : [])],
          version1: options.version1 ?? true,
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
    if (found === undefined) throw new Error(`no namespace ${namespace} in this lab`);
    return found;
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
    setHopLimit: hops => setHopLimit(imds, hops),
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

/**
 * The real service limits the TTL of the packets that answer the PUT, and no others; Node cannot set IP_TTL, so rules in
 * the imds namespace do. `@ih,0,32` is the first four bytes of the TCP payload: "PUT " marks the connection, "GET " clears it.
 */
async function setHopLimit(imds: string, hops: number | 'none'): Promise<void> {
  const limit = hops === 'none' ? '' : `
    table inet hop-limit {
      chain asked {
        type filter hook input priority mangle
        tcp dport 80 @ih,0,32 0x50555420 ct mark set 1
        tcp dport 80 @ih,0,32 0x47455420 ct mark set 0
      }
      chain answered {
        type filter hook output priority mangle
        meta nfproto ipv4 tcp sport 80 ct mark 1 ip ttl set ${hops}
        meta nfproto ipv6 tcp sport 80 ct mark 1 ip6 hoplimit set ${hops}
      }
    }`;
  await run('nsenter', [`--net=/run/netns/${imds}`, 'nft', '-f', '-'], `table inet hop-limit\ndelete table inet hop-limit\n${limit}\n`);
}
