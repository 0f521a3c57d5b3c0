// A node, the service and some pods in network namespaces of their own, laid out as the lab does it, and made to be used
// thousands of times: rules are loaded through a shell that lives on the node, requests are sent by agents that live
// in the pods.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { forget, remember, removeNow } from '../lab/leftovers.ts';
import { layOut, wire } from '../lab/wiring.ts';
import type { PodOrder, PodReply, ServerOrder, ServerReply } from './agent-protocol.ts';
import type { Scene, ScenePod } from './generate.ts';
import { Shell } from './shell.ts';

export interface World {
  readonly scene: Scene;
  /** A shell on the node. */
  readonly node: Shell;
  /** Takes all rules away. Rejects when that fails. */
  clear(): Promise<void>;
  openLive(pod: ScenePod, port: number): Promise<void>;
  /** How long the answer took; undefined when none came within `waitMs`. */
  attempt(pod: ScenePod, request: Attempt): Promise<number | undefined>;
  /** Names of the requests that arrived at the service since the last call. */
  served(): Promise<readonly string[]>;
  remove(): Promise<void>;
}

export type Attempt = Omit<Extract<PodOrder, { do: 'attempt' }>, 'id' | 'do'>;

/** The VPC CNI's two kinds of pod, and one whose interface another CNI has named. */
const PODS = [
  { name: 'branch', kind: 'vlan' },
  { name: 'web', kind: 'eni' },
  { name: 'other', kind: 'eni', prefix: 'cali' },
] as const;

let worlds = 0;

/** Needs root, or root in a user namespace with a tmpfs on /run (`unshare -rnm`). */
export async function makeWorld(): Promise<World> {
  worlds += 1;
  const prefix = `igf${process.pid}-${worlds}`;
  const [node, imds] = [`${prefix}-node`, `${prefix}-imds`];
  const pods = PODS.map((pod, index) => layOut(pod.name, pod, index + 1, `${prefix}-pod${index + 1}`));
  const namespaces = [node, imds, ...pods.map(pod => pod.namespace)];
  const processes: ChildProcess[] = [];
  const removal = { namespaces, processes: () => processes };
  remember(removal);
  const remove = async (): Promise<void> => {
    await Promise.all(processes.map(end));
    removeNow(removal);
    forget(removal);
  };
  try {
    ip([], namespaces.map(name => `netns add ${name}`));
    const wiring = wire({ node, imds, ipv6: false, pods });
    const shell = new Shell(node, { XTABLES_LOCKFILE: `/run/${prefix}.lock` });
    processes.push(shell.process);
    await shell.succeed(Object.entries(wiring.sysctls).map(([key, value]) => `echo ${value} >/proc/sys/${key}`).join('\n'));
    ip(['-n', node], [wiring.node]);
    for (const other of wiring.others) ip(['-n', other.namespace], [other.batch]);
    settleTranslations(node, imds);
    const server = new Agent<ServerOrder, ServerReply>('server-agent.ts', imds, processes);
    const agents = new Map(pods.map(pod => [pod.hostInterface, new Agent<PodOrder, PodReply>('pod-agent.ts', pod.namespace, processes)]));
    await server.reply(0);
    const agentOf = (pod: ScenePod): Agent<PodOrder, PodReply> => agents.get(pod.interface)!;
    return {
      scene: { pods: pods.map(pod => ({ interface: pod.hostInterface, address: pod.address4, out: pod.kind === 'vlan' ? 'vlan.eth.1' : 'ens5' })) },
      node: shell,
      clear: async () => {
        await shell.succeed(CLEAR);
      },
      openLive: async (pod, port) => {
        const { answeredMs } = await agentOf(pod).ask(id => ({ id, do: 'open', port }));
        if (answeredMs === undefined) throw new Error(`no answer to ${pod.interface} though there are no rules`);
      },
      attempt: async (pod, request) => (await agentOf(pod).ask(id => ({ id, do: 'attempt', ...request }))).answeredMs,
      served: async () => (await server.ask(id => ({ id }))).served,
      remove,
    };
  } catch (error) {
    await remove();
    throw new Error('the world could not be built', { cause: error });
  }
}

/**
 * No rules, in either backend. Without rules the kernel would not follow connections: the table that stays asks for
 * their state and does nothing else.
 */
const CLEAR = `
nft -f - <<'END-OF-INPUT'
flush ruleset
table inet follow-connections {
  chain last { type filter hook postrouting priority 2000000000; ct state new counter; }
}
END-OF-INPUT
test -z "$legacy" || iptables-legacy-restore <<'END-OF-INPUT'
${Object.entries({ raw: 'PREROUTING OUTPUT', mangle: 'PREROUTING INPUT FORWARD OUTPUT POSTROUTING', nat: 'PREROUTING INPUT OUTPUT POSTROUTING', filter: 'INPUT FORWARD OUTPUT', security: 'INPUT FORWARD OUTPUT' })
  .map(([table, chains]) => `*${table}\n${chains.split(' ').map(chain => `:${chain} ACCEPT [0:0]`).join('\n')}\nCOMMIT`)
  .join('\n')}
END-OF-INPUT
legacy=
`;

/** Whatever address a source is translated to, the answer comes back by the same link. */
function settleTranslations(node: string, imds: string): void {
  ip(['-n', node], ['addr add 10.0.2.11/32 dev vlan.eth.1']);
  ip(['-n', imds], ['route add 10.0.9.1 via 10.0.0.10', 'route add 10.0.2.11 dev trunk1']);
}

function ip(args: readonly string[], lines: readonly string[]): void {
  const { status, stderr } = spawnSync('ip', [...args, '-batch', '-'], { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'close');
  child.kill('SIGKILL');
  await gone;
}

/** A process in a namespace that answers one message for each it gets. */
class Agent<Order, Reply extends { readonly id: number }> {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, (reply: Reply) => void>();
  private readonly early = new Map<number, Reply>();
  private readonly died: Promise<never>;
  private asked = 0;
  constructor(program: string, namespace: string, processes: ChildProcess[]) {
    const script = fileURLToPath(new URL(program, import.meta.url));
    this.child = spawn('nsenter', [`--net=/run/netns/${namespace}`, process.execPath, script], {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    processes.push(this.child);
    this.died = once(this.child, 'close').then(() => {
      throw new Error(`${program} in ${namespace} has ended`);
    });
    this.died.catch(() => {}); // told to whoever asks
    this.child.on('message', (reply: Reply) => {
      const waiting = this.waiting.get(reply.id);
      if (waiting) waiting(reply);
      else this.early.set(reply.id, reply);
      this.waiting.delete(reply.id);
    });
  }

  ask(order: (id: number) => Order & object): Promise<Reply> {
    this.asked += 1;
    const replied = this.reply(this.asked);
    this.child.send(order(this.asked));
    return replied;
  }

  reply(id: number): Promise<Reply> {
    const early = this.early.get(id);
    if (early) return Promise.resolve(early);
    return Promise.race([new Promise<Reply>(resolve => this.waiting.set(id, resolve)), this.died]);
  }
}
