import t from 'tap';
import { type Ground, type ProbedNetwork, classify } from '../../agent/core/probe/classify.ts';
import { Sightings } from '../../agent/core/probe/sightings.ts';
import type { Tried, TriedNetwork } from '../../agent/core/probe/tried.ts';

/** Interfaces of a node: a pod's, the way out, another pod's. */
const [LO, ENI, ENS, OTHER] = [1, 2, 3, 4];
const NAMES = ['', 'lo', 'eni1', 'ens5', 'eni2'];
const FLAG = { syn: 2, synAck: 18, ack: 16, data: 24, reset: 20 } as const;
const [V1, V2] = [64512, 64513];

interface Sent {
  readonly at: number;
  readonly out?: boolean;
  readonly port: number;
  readonly toImds?: boolean;
  readonly flags: number;
  readonly sequence?: number;
  readonly acknowledged?: number;
  readonly ttl?: number;
  readonly data?: number;
}

/** An IPv4 packet of TCP, as it passes an interface. */
function frame({ port, toImds = true, flags, sequence = 0, acknowledged = 0, ttl = 64, data = 0 }: Sent): Buffer {
  const bytes = Buffer.alloc(40 + data);
  bytes[0] = 0x45;
  bytes.writeUInt16BE(bytes.length, 2);
  bytes[8] = ttl;
  bytes[9] = 6;
  const [pod, imds] = [[10, 0, 1, 5], [169, 254, 169, 254]];
  Buffer.from(toImds ? pod : imds).copy(bytes, 12);
  Buffer.from(toImds ? imds : pod).copy(bytes, 16);
  bytes.writeUInt16BE(checksumOf(bytes.subarray(0, 20)), 10);
  bytes.writeUInt16BE(toImds ? port : 80, 20);
  bytes.writeUInt16BE(toImds ? 80 : port, 22);
  bytes.writeUInt32BE(sequence >>> 0, 24);
  bytes.writeUInt32BE(acknowledged >>> 0, 28);
  bytes[32] = 5 << 4;
  bytes[33] = flags;
  return bytes;
}

function checksumOf(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return 0xffff - sum;
}

function ground(sent: readonly Sent[], lost = 0): Ground {
  const sightings = new Sightings();
  for (const one of sent) sightings.add(one.at, one.out ?? false, frame(one));
  sightings.lost = lost;
  return { sightings, unseen: undefined, inside: new Set([LO, ENI, OTHER]), nameOf: (index) => NAMES[index] ?? '', answersTo: (_family, _source, cameFrom) => cameFrom };
}
const unseen: Ground = { sightings: undefined, unseen: 'CAP_NET_RAW is needed to see packets', inside: new Set(), nameOf: String, answersTo: () => undefined };

const pod: ProbedNetwork = { pods: [], hostInterfaces: new Map([[ENI, 'eni1']]), kind: 'eni+', strangers: [], hasCard: false, bridged: [], isNode: false };
const node: ProbedNetwork = { ...pod, hostInterfaces: new Map(), kind: 'node', isNode: true };
const macvlan: ProbedNetwork = { ...pod, hostInterfaces: new Map(), kind: 'macvlan', hasCard: true, strangers: ['eth0 (macvlan)'] };

const silent = (port: number, during: 'connect' | 'answer' = 'connect'): Tried => ({ is: 'silent', during, port });
const answered = (port: number, status: number, body = 'a token'): Tried => ({ is: 'answered', status, body, port });
const both = (v1: Tried, token: Tried = { ...v1, ...('port' in v1 ? { port: V2 } : {}) } as Tried): TriedNetwork => ({ networkNamespace: '/run/netns/web', family: 'ipv4', v1, token, v2: token.is === 'answered' && token.status === 200 ? answered(V2, 200) : undefined });

/** A SYN that comes out of the pod; and one that goes on, with another port, as a masquerade makes it. */
const comes = (port: number, more: Partial<Sent> = {}): Sent => ({ at: ENI, port, flags: FLAG.syn, sequence: port * 1000, ...more });
const leaves = (port: number, more: Partial<Sent> = {}): Sent => ({ at: ENS, out: true, port: 1024 + (port % 7), flags: FLAG.syn, sequence: port * 1000, ttl: 63, ...more });
const returns = (port: number, more: Partial<Sent> = {}): Sent => ({ at: ENS, port, toImds: false, flags: FLAG.synAck, acknowledged: port * 1000 + 1, ...more });
const onBoth = (...kinds: readonly ((port: number) => Sent)[]): Sent[] => [V1, V2].flatMap((port) => kinds.map((kind) => kind(port)));

const classOf = (tried: TriedNetwork, network: ProbedNetwork, here: Ground): string => {
  const probe = classify(tried, network, here);
  return [probe.class, probe.v1.class, probe.v2.class].join(' ');
};

t.test('silence', async (t) => {
  const nothing = both(silent(V1));
  t.equal(classOf(nothing, pod, ground(onBoth(comes))), 'dropped dropped dropped', 'it came out of the pod and went no further');
  t.equal(classOf(nothing, pod, ground([])), 'inconclusive inconclusive inconclusive', "nothing came out: the pod's own firewall");
  t.equal(classOf(nothing, pod, ground(onBoth((port) => comes(port, { at: OTHER })))), 'inconclusive inconclusive inconclusive', 'another pod sent from the same port');
  t.equal(classOf(nothing, pod, ground(onBoth(comes, leaves))), 'inconclusive inconclusive inconclusive', 'it left the node: whoever dropped it is not this node');
  t.equal(classOf(nothing, pod, ground(onBoth(comes, leaves, returns))), 'dropped dropped dropped', 'the answer came back to the node, and no further');
  t.equal(classOf(nothing, pod, ground(onBoth(comes, (port) => leaves(port, { at: OTHER })))), 'dropped dropped dropped', 'out by another pod is not out');
  t.equal(classOf(nothing, pod, ground([], 3)), 'inconclusive inconclusive inconclusive', 'packets were lost on the way to us');
  t.equal(classOf(nothing, pod, ground(onBoth(comes), 3)), 'inconclusive inconclusive inconclusive', 'and that it left may be among them');
  t.equal(classOf(nothing, pod, unseen), 'inconclusive inconclusive inconclusive', 'nobody was permitted to look');
  t.match(classify(nothing, pod, unseen).v1.because, /CAP_NET_RAW/);
  t.equal(classOf(nothing, node, ground([])), 'inconclusive inconclusive inconclusive', 'the node has no rule of ours to die by');
});

t.test('refusal', async (t) => {
  const refused = both({ is: 'refused', code: 'ECONNREFUSED', port: V1 });
  t.equal(classOf(refused, pod, ground(onBoth(comes))), 'rejected rejected rejected');
  t.equal(classOf(refused, pod, ground([])), 'inconclusive inconclusive inconclusive', 'the pod refuses itself');
  t.equal(classOf(refused, pod, ground(onBoth(comes, leaves))), 'inconclusive inconclusive inconclusive', 'IMDS refuses: nobody listens there');
  t.equal(classOf(both({ is: 'no-route', code: 'ENETUNREACH' }), pod, ground([])), 'no-route no-route no-route');
  t.equal(classOf(both({ is: 'not-entered', because: 'gone' }), pod, ground([])), 'inconclusive inconclusive inconclusive');
});

t.test('the hop limit is told by the TTL of the answer that came as far as the node', async (t) => {
  const held = both(answered(V1, 401), silent(V2, 'answer'));
  const connected = onBoth(comes, leaves, returns);
  const answer = (ttl: number): Sent => returns(V2, { flags: FLAG.data, acknowledged: V2 * 1000 + 200, ttl, data: 56 });
  const limited = classify(held, pod, ground([...connected, answer(1)]));
  t.match(limited, { class: 'hop-limit', v1: { class: 'v1-off' }, v2: { class: 'hop-limit', connected: true }, hops: 1, tokenTtl: 1, reached: true });
  t.equal(classOf(held, pod, ground(connected)), 'v1-off v1-off inconclusive', 'no answer came at all: a hang is no hop limit');
  t.equal(classOf(held, pod, ground([...connected, answer(64)])), 'v1-off v1-off inconclusive', 'a TTL that would have done');
  const handedOn = [answer(2), { ...answer(1), at: ENI, out: true }];
  const routed = onBoth((port) => comes(port, { ttl: 63 }), (port) => leaves(port, { ttl: 62 }), returns);
  t.match(classify(held, pod, ground([...routed, ...handedOn])), { class: 'hop-limit', hops: 2 }, 'handed on with TTL 1 to a network inside the pod');
  t.equal(classOf(held, pod, ground([...connected, ...handedOn])), 'v1-off v1-off inconclusive', 'handed on with TTL 1 to the pod, which is near enough');
  t.equal(classOf(held, pod, ground([...connected, answer(3), { ...answer(2), at: ENI, out: true }])), 'v1-off v1-off inconclusive', 'it was handed to the pod');
});

t.test('what answers', async (t) => {
  const out = ground(onBoth(comes, leaves, returns));
  t.equal(classOf(both(answered(V1, 200), answered(V2, 200)), pod, out), 'open open open');
  t.equal(classOf(both(answered(V1, 401), answered(V2, 200)), pod, out), 'open v1-off open');
  t.equal(classOf(both(answered(V1, 403), answered(V2, 403)), pod, out), 'forbidden forbidden forbidden');
  t.equal(classOf(both(answered(V1, 503), answered(V2, 429)), pod, out), 'throttled throttled throttled');
  t.equal(classOf(both(answered(V1, 404), answered(V2, 200, '')), pod, out), 'inconclusive inconclusive inconclusive', '200 without a token is none');
  t.equal(classOf(both({ is: 'broken', because: 'garbage', port: V1 }, silent(V2)), pod, ground(onBoth(comes, leaves))), 'inconclusive inconclusive inconclusive');
  t.equal(classOf(both(answered(V1, 200), answered(V2, 200)), macvlan, ground([])), 'open open open', 'a card of its own: nobody sees its packets, and it is no proxy');
  t.match(classify(both(answered(V1, 200), answered(V2, 200)), macvlan, ground([])), { reached: true, interfaces: ['eth0 (macvlan)'] });
  t.match(classify(both(answered(V1, 200), answered(V2, 200)), pod, unseen), { class: 'open', reached: false }, 'unseen it counts as open, and proves nothing about IMDS');
});

t.test('somebody else answers: what is answered has not left', async (t) => {
  const asked = both(answered(V1, 200), answered(V2, 200));
  t.match(classify(asked, pod, ground(onBoth(comes))), { class: 'proxied', v1: { by: 'node', connected: false }, reached: false });
  t.match(classify(asked, pod, ground([])), { class: 'proxied', v1: { by: 'pod' } });
  t.match(classify(asked, node, ground(onBoth((port) => comes(port, { at: LO, out: true })))), { class: 'proxied', v1: { by: 'node' } }, 'a mock on the node');
  t.equal(classOf(both(silent(V1, 'answer')), pod, ground(onBoth(comes))), 'proxied proxied proxied', 'a proxy that hangs is one');
  t.equal(classOf(asked, pod, ground([], 9)), 'open open open', 'packets were lost: it may have been IMDS, and that is the worse');
  t.equal(classOf(asked, pod, ground(onBoth(comes), 9)), 'open open open', 'and so may be that it left');
});

t.test('bytes of anybody are no reason to fail', async (t) => {
  const sightings = new Sightings();
  for (const bytes of [Buffer.alloc(0), Buffer.from([0x45]), Buffer.alloc(40, 0xff), Buffer.alloc(60, 0x60), frame(comes(V1)).subarray(0, 39)]) sightings.add(ENI, false, bytes);
  t.equal(sightings.of(V1, 'ipv4', undefined), undefined);
  sightings.add(ENI, false, frame(comes(V1, { sequence: 0xffffffff })));
  sightings.add(ENS, false, frame(returns(V1, { acknowledged: 0 })));
  t.equal(sightings.of(V1, 'ipv4', undefined)?.answers.length, 1, 'sequence numbers begin again');
});
