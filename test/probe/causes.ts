// What a pod can meet on its way to IMDS, each made real for one pod among many: rules, routes, servers. Beside it what the
// packets then do, which is what a probe has to say. Written from the way packets go, never from what the product said.
import type { ProbeClass } from '../../agent/core/probe/report.ts';
import type { Lab, Pod, PodKind, Service } from '../lab/lab.ts';

export interface Cause {
  readonly v1: ProbeClass;
  readonly v2: ProbeClass;
  /**
   * Rules, `CHAIN: RULE`. `$pod`: the pod's interfaces on the node, `$imds`: to IMDS, `$back`: from it, each over both families;
   * `$here`: an address of the node, or of the pod itself; `$other`: one of another pod.
   */
  readonly node?: readonly string[];
  readonly pod?: readonly string[];
  readonly imds?: readonly string[];
  /** For `ip -batch` in the pod, and what takes it back; `$address` is IMDS. */
  readonly routes?: { readonly make: string; readonly undo: string };
  readonly service?: Partial<Service>;
  readonly hopLimit?: number;
  /** Where it does not happen, or is another thing. */
  readonly notFor?: readonly PodKind[];
  readonly listener?: 'in the pod' | 'in the pod, as IMDS';
}

/** Listeners of the node, which every lab of these tests has. */
export const MOCK_PORT = 8181;
export const FORWARDER_PORT = 8182;
/** In pods. */
export const POD_PORT = 8080;
const NOBODY_PORT = 9;

/** What the node itself sends to a branch-ENI pod finds no way: its table is for what comes in by the trunk. */
const notBranch = ['vlan', 'macvlan'] as const;
const unansweredBy = (v: ProbeClass): Pick<Cause, 'v1' | 'v2'> => ({ v1: v, v2: v });

export const CAUSES = {
  'nothing at all': unansweredBy('open'),

  // IMDS
  'version 1 is off': { v1: 'v1-off', v2: 'open', service: { version1: false } },
  'IMDS is switched off': { ...unansweredBy('forbidden'), service: { token: 403, metadata: 403 } },
  'tokens are forbidden': { v1: 'open', v2: 'forbidden', service: { token: 403 } },
  'IMDS is overloaded, 503': { ...unansweredBy('throttled'), service: { token: 503, metadata: 503 } },
  'IMDS is overloaded, 429': { ...unansweredBy('throttled'), service: { token: 429, metadata: 429 } },
  'tokens are overloaded, version 1 is off': { v1: 'v1-off', v2: 'throttled', service: { token: 503, version1: false } },
  'a token is a bad request': { v1: 'open', v2: 'inconclusive', service: { token: 400 } },
  'no such path': { ...unansweredBy('inconclusive'), service: { token: 404, metadata: 404 } },
  'IMDS hangs': { ...unansweredBy('inconclusive'), service: { token: 'hang', metadata: 'hang' } },
  'tokens hang, and no hop limit is the cause': { v1: 'v1-off', v2: 'inconclusive', service: { token: 'hang', version1: false } },
  'IMDS resets what was asked': { ...unansweredBy('inconclusive'), service: { token: 'reset', metadata: 'reset' } },
  'IMDS resets who connects': { ...unansweredBy('inconclusive'), service: { connection: 'reset' } },
  'IMDS speaks no HTTP': { ...unansweredBy('inconclusive'), service: { token: 'not-http', metadata: 'not-http' } },
  'IMDS sends a byte now and then': { ...unansweredBy('inconclusive'), service: { token: 'trickle', metadata: 'trickle' } },
  'IMDS never ends its headers': { ...unansweredBy('inconclusive'), service: { token: 'endless-headers', metadata: 'endless-headers' } },
  'IMDS refuses connections': { ...unansweredBy('inconclusive'), imds: ['input: $pod tcp dport 80 reject with tcp reset'] },
  'hop limit 1': { v1: 'open', v2: 'hop-limit', hopLimit: 1, notFor: ['macvlan'] },
  'hop limit 1, version 1 is off': { v1: 'v1-off', v2: 'hop-limit', hopLimit: 1, service: { version1: false }, notFor: ['macvlan'] },
  'hop limit 2': { ...unansweredBy('open'), hopLimit: 2 },

  // The node
  'the node drops': { ...unansweredBy('dropped'), node: ['forward: iifname $pod $imds drop'] },
  'the node drops before it routes': { ...unansweredBy('dropped'), node: ['prerouting: iifname $pod $imds drop'] },
  'the node drops after it has routed': { ...unansweredBy('dropped'), node: ['prerouting: iifname $pod $imds meta mark set 7', 'postrouting: meta mark 7 drop'] },
  'the node drops the answers': { ...unansweredBy('dropped'), node: ['forward: oifname $pod $back drop'] },
  'the node resets': { ...unansweredBy('rejected'), node: ['forward: iifname $pod $imds reject with tcp reset'], notFor: ['vlan', 'macvlan'] },
  'the node prohibits': { ...unansweredBy('rejected'), node: ['forward: iifname $pod $imds reject with icmpx admin-prohibited'], notFor: ['vlan', 'macvlan'] },
  'the node says unreachable': { ...unansweredBy('rejected'), node: ['forward: iifname $pod $imds reject with icmpx port-unreachable'], notFor: ['vlan', 'macvlan'] },
  'the node resets, and the reset finds no way': { ...unansweredBy('dropped'), node: ['forward: iifname $pod $imds reject with tcp reset'], notFor: ['eni', 'v6', 'macvlan'] },
  'the node drops what follows the handshake': { ...unansweredBy('inconclusive'), node: ['forward: iifname $pod $imds tcp flags & psh == psh drop'] },
  'the node resets what follows the handshake': { ...unansweredBy('inconclusive'), node: ['forward: iifname $pod $imds tcp flags & psh == psh reject with tcp reset'], notFor: notBranch },
  'the node drops the data of answers, and no hop limit is the cause': { ...unansweredBy('inconclusive'), node: ['forward: oifname $pod $back tcp flags & psh == psh drop'] },
  'a mock on the node': { ...unansweredBy('proxied'), node: [`dstnat: iifname $pod $imds dnat $here:${MOCK_PORT}`], notFor: notBranch },
  'a proxy on the node that asks IMDS itself': { ...unansweredBy('proxied'), node: [`dstnat: iifname $pod $imds dnat $here:${FORWARDER_PORT}`], notFor: notBranch },
  'a proxy in another pod': { ...unansweredBy('proxied'), node: [`dstnat: iifname $pod $imds dnat $other:${POD_PORT}`], notFor: notBranch },

  // The pod
  'the pod drops what it sends': { ...unansweredBy('inconclusive'), pod: ['output: $imds drop'] },
  'the pod refuses what it sends': { ...unansweredBy('inconclusive'), pod: ['output: $imds reject with tcp reset'] },
  'the pod drops the answers': { ...unansweredBy('inconclusive'), pod: ['input: $back drop'] },
  'the pod drops answers to what it asked': { ...unansweredBy('inconclusive'), pod: ['input: $back tcp flags & psh == psh drop'] },
  'the pod drops answers that the hop limit just lets in': { ...unansweredBy('inconclusive'), hopLimit: 2, pod: ['input: $back tcp flags & psh == psh drop'] },
  'the pod drops, and so does the node': { ...unansweredBy('inconclusive'), pod: ['output: $imds drop'], node: ['forward: iifname $pod $imds drop'] },
  // What a macvlan pod does not send, no node can know that it did not.
  'a proxy in the pod': { notFor: ['macvlan'], ...unansweredBy('proxied'), pod: [`dstnat-output: $imds redirect to :${POD_PORT}`], listener: 'in the pod' },
  'a proxy in the pod where nobody listens': { ...unansweredBy('inconclusive'), pod: [`dstnat-output: $imds redirect to :${NOBODY_PORT}`] },
  // Nor may there be two who answer for one address on the network of a macvlan pod.
  'a mock at the address of IMDS in the pod': { notFor: ['macvlan'], ...unansweredBy('proxied'), routes: { make: 'addr add $address dev lo', undo: 'addr del $address dev lo' }, listener: 'in the pod, as IMDS' },
  'the pod has no way to IMDS': { ...unansweredBy('inconclusive'), routes: { make: 'route add unreachable $address metric 1', undo: 'route del unreachable $address metric 1' }, notFor: ['macvlan'] },
} as const satisfies Readonly<Record<string, Cause>>;

export type CauseName = keyof typeof CAUSES;
export const causeNames = Object.keys(CAUSES) as CauseName[];
export const causeOf = (name: CauseName): Cause => CAUSES[name];

export const happensTo = (name: CauseName, { kind }: Pod): boolean => kind !== 'loose' && !(causeOf(name).notFor?.includes(kind) ?? false);

/** A macvlan pod goes by the node: no rule of it meets its packets. */
export function expectedOf(name: CauseName, pod: Pod): Pick<Cause, 'v1' | 'v2'> {
  const cause = causeOf(name);
  return pod.kind === 'macvlan' && cause.node !== undefined && cause.pod === undefined ? unansweredBy('open') : cause;
}

export interface Scene {
  readonly lab: Lab;
  /** Who answers where packets are sent to another pod: it has both families, and no cause of its own. */
  readonly other: Pod;
}

/** Makes a lab ready for all of these. */
export async function setScene(lab: Lab, other: Pod): Promise<Scene> {
  // Linux sends a client six ICMP errors and then one a second. A connection whose answers are dropped is half open for a minute,
  // and one from the same port would be answered as if it were that one. Neither is what is asked here.
  await must(lab.exec(lab.node, 'sysctl', ['-w', 'net.ipv4.icmp_ratelimit=0', 'net.ipv6.icmp.ratelimit=0']));
  await must(lab.exec(lab.imds, 'sysctl', ['-w', 'net.ipv4.tcp_synack_retries=0']));
  for (const [address, imds] of [['10.0.0.10', '169.254.169.254'], ['2001:db8:0:1::10', 'fd00:ec2::254']] as const) {
    await lab.answerAt('node', { address, port: MOCK_PORT });
    await lab.forwardAt('node', { address, port: FORWARDER_PORT }, { address: imds, port: 80 });
  }
  for (const address of [other.address4, other.address6]) await lab.answerAt(other, { address, port: POD_PORT });
  return { lab, other };
}

export type Plot = ReadonlyMap<Pod, CauseName>;

/** Everything that is to happen to these pods, in place of whatever happened before; `undo` of that first. */
export async function play({ lab, other }: Scene, plot: Plot, before: Plot = new Map()): Promise<void> {
  await Promise.all([...before].map(([pod, name]) => leave(lab, pod, name)));
  const parts = [...plot].map(([pod, name]) => ({ pod, cause: causeOf(name) }));
  const lines = (place: 'node' | 'imds', here: readonly [string, string]): string[] =>
    parts.flatMap(({ pod, cause }) => (cause[place] ?? []).flatMap((line) => spell(line, pod, here, other, place)));
  await Promise.all([
    nft(lab, lab.node, lines('node', ['10.0.0.10', '2001:db8:0:1::10'])),
    nft(lab, lab.imds, lines('imds', ['', ''])),
    lab.setService({}, ...plot.keys()),
  ]);
  for (const [hops, pods] of Map.groupBy(parts, ({ cause }) => cause.hopLimit ?? 'none')) await lab.setHopLimit(hops, ...pods.map(({ pod }) => pod));
  await Promise.all(parts.map(({ pod, cause }) => enter(lab, pod, cause, other)));
}

async function enter(lab: Lab, pod: Pod, cause: Cause, other: Pod): Promise<void> {
  if (cause.service !== undefined) await lab.setService(cause.service, pod);
  if (cause.pod !== undefined) await nft(lab, pod.namespace, cause.pod.flatMap((line) => spell(line, pod, ['', ''], other, 'pod')));
  if (cause.routes !== undefined) await ip(lab, pod, cause.routes.make);
  const places = cause.listener === 'in the pod' ? ['127.0.0.1', '::1'] : cause.listener === undefined ? [] : imdsOf(pod);
  for (const address of places) await lab.answerAt(pod, { address, port: cause.listener === 'in the pod' ? POD_PORT : 80 });
}

async function leave(lab: Lab, pod: Pod, name: CauseName): Promise<void> {
  const { pod: rules, routes, listener } = causeOf(name);
  if (rules !== undefined) await nft(lab, pod.namespace, []);
  if (listener !== undefined) await lab.closeAt(pod);
  if (routes !== undefined) await ip(lab, pod, routes.undo);
}

const imdsOf = (pod: Pod): string[] => ['169.254.169.254', ...(pod.address6 === '' ? [] : ['fd00:ec2::254'])];

async function ip(lab: Lab, pod: Pod, line: string): Promise<void> {
  const stdin = imdsOf(pod).map((address) => `${line.replace('$address', address)}\n`).join('');
  await must(lab.exec(pod.namespace, 'ip', ['-batch', '-'], { stdin }));
}

const CHAINS = {
  prerouting: 'type filter hook prerouting priority raw',
  dstnat: 'type nat hook prerouting priority dstnat',
  'dstnat-output': 'type nat hook output priority -100',
  input: 'type filter hook input priority filter',
  forward: 'type filter hook forward priority filter',
  output: 'type filter hook output priority filter',
  postrouting: 'type filter hook postrouting priority mangle',
};

/** One rule for each family; what a family does not have is not said. */
function spell(line: string, pod: Pod, here: readonly [string, string], other: Pod, place: 'node' | 'imds' | 'pod'): string[] {
  const interfaces = `{ ${[pod.hostInterface, pod.hostInterface4].filter((name) => name !== '').map((name) => `"${name}"`).join(', ')} }`;
  // It has none on the node: nothing that is done there to a pod's interfaces is done to it.
  if (place === 'node' && pod.hostInterface === '') return [];
  const families = [
    { ip: 'ip', imds: '169.254.169.254', own: pod.address4, other: other.address4, here: here[0] },
    { ip: 'ip6', imds: 'fd00:ec2::254', own: pod.address6, other: `[${other.address6}]`, here: `[${here[1]}]` },
  ];
  const spelled = families.filter(({ own }) => own !== '').map(({ ip, imds, own, other, here }) =>
    line
      .replace('$pod', place === 'imds' ? `${ip} saddr ${own}` : interfaces)
      .replace('$imds', `${ip} daddr ${imds} tcp dport 80`)
      .replace('$back', `${ip} saddr ${imds}`)
      .replace('dnat $', `dnat ${ip} to $`)
      .replace('$here', here)
      .replace('$other', other),
  );
  return [...new Set(spelled)];
}

/** `CHAIN: RULE` each, in place of those that were there. */
async function nft(lab: Lab, namespace: string, lines: readonly string[]): Promise<void> {
  const chains = Map.groupBy(lines.map((line) => line.split(/: (.*)/s) as [keyof typeof CHAINS, string]), ([chain]) => chain);
  const text = [...chains].map(([chain, rules]) => `chain ${chain} {\n ${CHAINS[chain]}\n${rules.map(([, rule]) => ` ${rule}\n`).join('')}}\n`).join('');
  await must(lab.exec(namespace, 'nft', ['-f', '-'], { stdin: `table inet causes\ndelete table inet causes\n${text === '' ? '' : `table inet causes {\n${text}}\n`}` }));
}

async function must(ran: ReturnType<Lab['exec']>): Promise<void> {
  const { exitCode, stderr } = await ran;
  if (exitCode !== 0) throw new Error(stderr);
}
