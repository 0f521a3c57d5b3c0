import { createHash } from 'node:crypto';
import t from 'tap';
import type { ClientCounts } from '../../agent/core/clients/counts.ts';
import { socketsToImds } from '../../agent/core/clients/connections.ts';
import { podNames } from '../../agent/core/clients/identity.ts';
import { KNOWN_ADD_ONS, addOnOf } from '../../agent/core/clients/known-add-ons.ts';
import { type ClientsReport, type ClientsSeen, clientsReport } from '../../agent/core/clients/report.ts';
import { clientsText } from '../../agent/core/clients/text-clients.ts';
import type { PodNetwork } from '../../agent/core/probe/pod-network.ts';

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');
const hash = (pod: string): string => sha1(pod).slice(0, 11);
const uid = (digit: string): string => `${digit.repeat(8)}-3c4d-4e5f-8a9b-0c1d2e3f4a5b`;
const HOUR = 3_600_000;

type Counted = Extract<ClientCounts, { readonly state: 'counted' }>;
const nothing: Counted = { state: 'counted', mode: 'observe', seesPayload: true, sinceMsAgo: 26 * HOUR, interfaces: [], sources: [], puts: [], gets: [], probes: [], processes: [], full: [] };
const web: PodNetwork = { inode: 'net:[1]', path: '/run/netns/cni-1', pods: [{ namespace: 'shop', name: 'web-0', uid: uid('1') }], hostInterfaces: [`eni${hash('shop.web-0')}`], strangers: [], inward: [] };
const eniOfWeb = web.hostInterfaces[0]!;
const gone = `eni${hash('shop.job-x7k2p')}`;

function seen(counts: Partial<Counted>, others: Partial<ClientsSeen> = {}): ClientsReport {
  return clientsReport({
    counts: { ...nothing, ...counts },
    networks: { networks: [web], skipped: [] },
    names: podNames([`shop_web-0_${uid('1')}`, `shop_job-x7k2p_${uid('2')}`, `kube-system_aws-node-abcde_${uid('3')}`], sha1),
    cgroups: { paths: new Map() },
    connected: [],
    putsKeptMs: 24 * HOUR,
    at: (msAgo) => new Date(Date.UTC(2026, 10, 24) - msAgo).toISOString(),
    ...others,
  });
}
const asked = (name: string, packets = 1, times: { firstMsAgo?: number; lastMsAgo?: number } = { firstMsAgo: 2 * HOUR, lastMsAgo: HOUR }) => ({ interface: name, packets, ...times });

t.test('a pod that asked is named, with what was counted of it', async (t) => {
  const report = seen({
    interfaces: [asked(eniOfWeb, 5)],
    puts: [asked(eniOfWeb, 2, { lastMsAgo: HOUR })],
    gets: [asked(eniOfWeb, 3, { lastMsAgo: HOUR / 2 })],
    sources: [{ family: 'ipv4', interface: eniOfWeb, source: '10.0.1.101', packets: 5, lastMsAgo: HOUR }],
  });
  t.match(report, { mode: 'observe', conclusion: { question: 'safe-to-block', answer: 'no' }, remarks: [], uncounted: [], nodeClients: [] });
  t.match(report.clients, [{ pods: web.pods, present: true, interfaces: [eniOfWeb], sources: ['10.0.1.101'], moreSources: 0, attempts: 5, puts: 2, gets: 3, version: 'v2', firstSeen: '2026-11-23T22:00:00.000Z', lastSeen: '2026-11-23T23:30:00.000Z' }]);
  t.notHas(report.clients[0], { doubt: '' });
});

t.test('a pod that is gone has its name by its interface; of an interface that nothing is known of, its own is said', async (t) => {
  const { clients } = seen({ interfaces: [asked('eni0123456789a'), asked(gone), asked('docker0')] });
  t.match(clients, [{ pods: [{ namespace: 'shop', name: 'job-x7k2p', uid: uid('2') }], present: false }, { pods: [], interfaces: ['docker0'] }, { pods: [], interfaces: ['eni0123456789a'] }]);
  t.equal(clients.length, 3, 'none is dropped');
  t.match(clientsText(seen({ interfaces: [asked('docker0'), asked(gone)] })), /^shop\/job-x7k2p \(gone\) .*\n(?:.*\n)*docker0, of no pod that is known /m);
});

t.test('both interfaces of a pod are one client, and several pods in one network are told together', async (t) => {
  const two: PodNetwork = { ...web, hostInterfaces: [eniOfWeb, 'veth01234567'], pods: [...web.pods, { uid: uid('9') }] };
  const { clients } = seen({ interfaces: [asked(eniOfWeb, 1), asked('veth01234567', 2)], puts: [asked('veth01234567')], gets: [asked(eniOfWeb)] }, { networks: { networks: [two], skipped: [] } });
  t.match(clients, [{ pods: two.pods, interfaces: [eniOfWeb, 'veth01234567'], attempts: 3, puts: 1, gets: 1, version: 'v2' }]);
  t.equal(clients.length, 1);
});

t.test('who only ever sends GETs uses version 1, for certain only when no token can be left from before', async (t) => {
  const version = (firstHours: number, lastHours: number, more: Partial<Counted> = {}): string => {
    const { version, doubt } = seen({ sinceMsAgo: firstHours * HOUR, interfaces: [asked(eniOfWeb)], gets: [asked(eniOfWeb, 3, { lastMsAgo: lastHours * HOUR })], ...more }).clients[0]!;
    return `${version}${doubt === undefined ? '' : '?'}`;
  };
  t.equal(version(5, 0), 'v1?', 'a token may be six hours old');
  t.equal(version(7, 2), 'v1?', 'at the time of its last GET counting had gone on for five hours');
  t.equal(version(6, 0), 'v1');
  t.equal(version(30, 23), 'v1?', 'a PUT of then would be forgotten by now');
  t.equal(version(30, 17), 'v1');
  t.equal(version(30, 17, { puts: [asked(eniOfWeb)] }), 'v2');
  t.equal(version(30, 17, { gets: [asked(eniOfWeb, 1, {})] }), 'v1?', 'when it was the last nothing tells');
});

t.test('where no request could be seen there are attempts, and no version', async (t) => {
  for (const [counts, why] of [[{ mode: 'enforce' }, /never comes to a request/], [{ seesPayload: false }, /cannot look into payloads/], [{}, /neither a PUT nor a GET/]] as const) {
    const report = seen({ ...counts, interfaces: [asked(eniOfWeb, 7)] });
    t.match(report.clients, [{ version: 'attempts-only', attempts: 7, doubt: why }]);
    if ('mode' in counts || 'seesPayload' in counts) t.match(report.remarks, [/^attempts only: /]);
  }
});

t.test('yes needs a day in which everybody was watched and nobody asked', async (t) => {
  const answer = (counts: Partial<Counted>): string => {
    const { conclusion } = seen(counts);
    return conclusion.answer;
  };
  t.equal(answer({}), 'yes');
  t.equal(answer({ sinceMsAgo: 24 * HOUR }), 'yes');
  t.equal(answer({ sinceMsAgo: 23.9 * HOUR }), 'unknown');
  const { sinceMsAgo, ...withoutTime } = nothing;
  t.match(seen({}, { counts: withoutTime }).conclusion, { answer: 'unknown', because: /cannot be told/, todo: /wait a day/ });
  t.equal(answer({ seesPayload: false }), 'unknown', 'a connection that is kept open begins only once');
  t.equal(answer({ full: ['clients4'] }), 'unknown');
  t.equal(answer({ interfaces: [asked('docker0')] }), 'no', 'nor is it safe for somebody without a name');
  t.equal(answer({ gets: [asked(eniOfWeb)] }), 'no', 'a connection from before counting has no beginning');
  t.match(seen({}, { counts: { state: 'absent', because: 'there is no table inet imds-guard' } }), { mode: 'absent', conclusion: { answer: 'unknown', because: /no table inet imds-guard/, todo: /--mode observe/ }, clients: [] });
});

t.test('enforcing, the question is who is refused', async (t) => {
  t.same(seen({ mode: 'enforce' }).conclusion, { question: 'who-is-refused', answer: 'nobody', because: 'no pod asked for IMDS' });
  t.same(seen({ mode: 'enforce', interfaces: [asked(eniOfWeb)] }).conclusion, { question: 'who-is-refused', answer: 'somebody', because: '1 client asked for IMDS' });
});

t.test('a pod that invents addresses fills the set of addresses: it is named, and the others are still listed', async (t) => {
  const flood = Array.from({ length: 4095 }, (_, n) => ({ family: 'ipv4' as const, interface: gone, source: `10.99.${n >> 8}.${n & 255}`, packets: 1, lastMsAgo: 0 }));
  const report = seen({ mode: 'enforce', interfaces: [asked(gone, 9000), asked(eniOfWeb)], sources: [...flood, { family: 'ipv4', interface: gone, source: '10.0.1.7', packets: 40, lastMsAgo: 0 }], full: ['clients4'] });
  t.match(report.clients, [{ pods: [{ name: 'job-x7k2p' }], attempts: 9000, sources: ['10.0.1.7', '10.99.0.0', '10.99.0.1'], moreSources: 4093 }, { pods: [{ name: 'web-0' }], attempts: 1, sources: [] }]);
  t.ok(report.remarks.includes(`full, so somebody may be missing there: clients4; ${gone} asked from 4096 addresses`), report.remarks.join('\n'));
});

t.test('whoever is in the network of the node is listed apart', async (t) => {
  const slice = `/kubepods.slice/kubepods-pod${uid('3').replaceAll('-', '_')}.slice/cri-containerd-${'4be2f0d1'.repeat(8)}.scope`;
  const processes = ['10', '11', '12', '13', '14'].map((cgroup, at) => ({ cgroup, packets: at + 1, lastMsAgo: HOUR }));
  const paths = new Map([['10', '/system.slice/kubelet.service'], ['11', slice], ['12', '/'], ['13', '/user.slice/user-0.slice/session-3.scope']]);
  const connected = [
    { pid: 41, name: 'kubelet', cgroup: '0::/system.slice/kubelet.service\n' },
    { pid: 42, name: 'ssm-agent', cgroup: '1:name=systemd:/system.slice/amazon-ssm-agent.service\n0::/\n' },
  ];
  const report = seen({ processes }, { cgroups: { paths }, connected });
  t.match(report.nodeClients, [
    { is: 'unit', name: 'amazon-ssm-agent.service', attempts: undefined, processes: [{ pid: 42, name: 'ssm-agent' }] },
    { is: 'gone', name: 'cgroup 14', attempts: 5 },
    { is: 'pod', name: 'kube-system/aws-node-abcde', pod: { uid: uid('3') }, cgroup: slice },
    { is: 'unit', name: 'kubelet.service', attempts: 1, processes: [{ pid: 41, name: 'kubelet' }] },
    { is: 'cgroup', name: 'no cgroup of its own' },
    { is: 'unit', name: 'session-3.scope' },
  ]);
  t.equal(report.conclusion.answer, 'yes', 'no rule of ours stops them');
  t.match(clientsText(report), /^on the node itself, where no rule of ours stops anybody:\n(?:.*\n)* {2}kubelet\.service +1 connection +last 2026-11-23T23:00:00\.000Z  connected now: kubelet \(41\)$/m);

  const blind = seen({ processes }, { cgroups: { paths: new Map(), outOfSight: 'there is no cgroup v2' } });
  t.ok(blind.nodeClients.every(({ is }) => is === 'unknown'), 'what is not in sight is not called gone');
  t.match(blind.remarks, [/there is no cgroup v2/]);
});

t.test('pods whose packets meet no rule are named as not counted', async (t) => {
  const macvlan: PodNetwork = { inode: 'net:[2]', path: '/run/netns/cni-2', pods: [{ namespace: 'shop', name: 'fast', uid: uid('4') }], hostInterfaces: [], strangers: [{ name: 'net1', kind: 'macvlan', isCard: true }], inward: [] };
  const report = seen({}, { networks: { networks: [web, macvlan], skipped: [] } });
  t.same(report.uncounted, [{ pods: macvlan.pods, network: '/run/netns/cni-2', interfaces: ['net1 is a macvlan'] }]);
  t.match(clientsText(report), /meet no rule of this node: shop\/fast \(net1 is a macvlan\)/);
});

t.test('connections from the ports of our own probes are told apart', async (t) => {
  const report = seen({ probes: [asked(eniOfWeb, 12)] });
  t.same(report.clients, []);
  t.match(report.remarks, [new RegExp(`^12 connections from the ports of our own probes are not counted, by ${eniOfWeb}`)]);
});

t.test('a known add-on comes with what breaks and what to do', async (t) => {
  const pods = [{ namespace: 'kube-system', name: 'aws-load-balancer-controller-7d9f8-x2x4z', uid: uid('5') }];
  const report = seen({ interfaces: [asked(eniOfWeb)] }, { networks: { networks: [{ ...web, pods }], skipped: [] } });
  t.match(report.clients[0]?.advice, { what: 'AWS Load Balancer Controller', fix: /--aws-region and --aws-vpc-id/ });
  t.match(clientsText(report), /^kube-system\/aws-load.*\n {2}AWS Load Balancer Controller: .*\n {2}do: --aws-region/m);
  t.equal(seen({ interfaces: [asked(eniOfWeb)] }).clients[0]?.advice?.what, undefined, 'others get what helps whoever uses an SDK');
  for (const [pod, what] of [['ebs-csi-node-abcde', 'EBS CSI driver'], ['aws-for-fluent-bit-abcde', 'Fluent Bit for AWS'], ['datadog-cluster-agent-5f-x', 'Datadog agent'], ['aws-node-termination-handler-x', 'AWS Node Termination Handler'], ['aws-node-x7k2p', undefined], ['my-datadog-x', undefined]] as const) t.equal(addOnOf(pod)?.what, what, pod);
});

t.test('every row of add-ons says who says so', async (t) => {
  for (const { what, pods, from } of KNOWN_ADD_ONS) {
    t.ok(from.length > 0 && from.every((thread) => /^[\w.-]+\/[\w.-]+#\d+$/.test(thread)), what);
    t.ok(pods.every((start) => /^[a-z0-9-]+-$/.test(start)), `${what}: the beginning of a name ends before what is made up for each pod`);
  }
});

t.test('the text has aligned columns, and nothing in it that a terminal would obey', async (t) => {
  const hostile = 'x\x1b[2J\u202e\n';
  const report = seen(
    { interfaces: [asked(hostile, 1), asked(eniOfWeb, 12345)], processes: [{ cgroup: '10', packets: 1, lastMsAgo: 0 }], sources: [{ family: 'ipv4', interface: eniOfWeb, source: '10.0.1.101', packets: 5, lastMsAgo: 0 }] },
    { cgroups: { paths: new Map([['10', `/a${hostile}`]]) }, connected: [{ pid: 1, name: hostile, cgroup: `0::/a${hostile.trim()}.service` }] },
  );
  const text = clientsText(report);
  t.notMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}]/u);
  const rows = text.split('\n').slice(0, 3);
  const column = rows[0]!.indexOf('LAST SEEN');
  t.ok(rows.slice(1).every((row) => row.slice(column - 2).startsWith('  2026-')), text);
  t.equal(new Set(rows.map((row) => /(CONNECTIONS|\b12345|\b1) /.exec(row)!).map((found) => found.index + found[1]!.length)).size, 1, 'numbers stand under each other');
});

t.test('sockets that are connected to IMDS', async (t) => {
  const line = (remote: string, inode: string): string => `   0: 0A00000A:C350 ${remote} 01 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 20 4 30 10 -1`;
  const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
  t.same([...socketsToImds([head, line('FEA9FEA9:0050', '77'), line('FEA9FEA9:01BB', '78'), line('FDA9FEA9:0050', '79'), line('FEA9FEA9:0050', '0')].join('\n'))], ['77']);
  t.same([...socketsToImds([line('C20E00FD000000000000000054020000:0050', '80'), line('0000000000000000FFFF0000FEA9FEA9:0050', '81'), line('00000000000000000000000001000000:0050', '82')].join('\n'))], ['80', '81']);
  t.same([...socketsToImds('')], []);
});
