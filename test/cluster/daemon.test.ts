// `imds-guard watch` on a lab's node, with a ServiceAccount's token bound to that node, before a real API server.
import t, { type Test } from 'tap';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must } from '../kernel/guard.ts';
import { startDaemon, type Daemon } from '../lab/daemon.ts';
import { makeLab, type Lab } from '../lab/lab.ts';
import { startApiServer, type ApiServer } from './api-server.ts';
import { missing } from './binaries.ts';
import { startFaultProxy, type FaultProxy } from './fault-proxy.ts';
import { agentRights } from './manifests.ts';
import { type NodeCondition, conditionsOf, createNode, createPod, deleteNode, kubeletIsReady } from './node.ts';
import { granted } from './request.ts';

t.setTimeout(300_000);

const skip = await missing('etcd', 'kube-apiserver');
const NAMESPACE = 'kube-system';
const ACCOUNT = 'imds-guard';
let server: ApiServer;
t.before(async () => {
  if (skip !== false) return;
  server = await startApiServer({ kubelets: Array.from({ length: 9 }, (_, at) => `node-${at + 1}`) });
  for (const { path, body } of agentRights()) await granted(server.admin('POST', path, body));
});
t.teardown(() => server?.stop());

interface Place {
  readonly lab: Lab<'web'>;
  readonly node: string;
  readonly proxy: FaultProxy;
  readonly folder: string;
  /** A daemon in a pod of that node: its ServiceAccount is where the kubelet would put it. */
  readonly start: (args?: readonly string[], name?: string) => Daemon;
  /** As the kubelet does it. */
  readonly rotateToken: () => Promise<void>;
  readonly condition: () => Promise<NodeCondition | undefined>;
  readonly conditionThat: (is: (condition: NodeCondition) => boolean) => Promise<NodeCondition>;
}

let nodes = 0;
const askAgainMs = 200;

async function makePlace(t: Test, options: { readonly taints?: readonly { readonly key: string; readonly effect: 'NoSchedule' }[] } = {}): Promise<Place> {
  const node = `node-${(nodes += 1)}`;
  await createNode(server, node, options);
  await createPod(server, { namespace: NAMESPACE, name: `agent-${node}`, node, serviceAccount: ACCOUNT });
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(() => lab.remove());
  const proxy = await startFaultProxy(server, { namespace: lab.node });
  t.teardown(() => proxy.stop());
  const folder = mkdtempSync(join(tmpdir(), 'imds-guard-account-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  copyFileSync(proxy.caFile, join(folder, 'ca.crt'));
  const rotateToken = async (): Promise<void> => writeFileSync(join(folder, 'token'), await server.tokenFor({ namespace: NAMESPACE, serviceAccount: ACCOUNT, pod: `agent-${node}` }));
  await rotateToken();
  const condition = async (): Promise<NodeCondition | undefined> => (await conditionsOf(server, node))['PodIMDSBlocked'];
  const mounted = '/run/secrets/kubernetes.io/serviceaccount';
  return {
    lab, node, proxy, folder, rotateToken, condition,
    start: (args = [], name = node) => {
      const env = `KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT=${proxy.port} IMDS_GUARD_NODE_NAME=${name}`;
      const daemon = startDaemon(lab, args, { before: ['unshare', '-m', 'sh', '-ec', `mkdir -p ${mounted}; mount --bind ${folder} ${mounted}; export ${env}; exec "$@"`, 'sh'] });
      t.teardown(() => daemon.stop());
      return daemon;
    },
    conditionThat: async (is) => {
      let last: NodeCondition | undefined;
      for (const deadline = performance.now() + 90_000; performance.now() < deadline; await new Promise((later) => setTimeout(later, askAgainMs))) {
        last = await condition().catch(() => undefined);
        if (last && is(last)) return last;
      }
      throw new Error(`the condition was never so; the last: ${JSON.stringify(last)}`);
    },
  };
}

const isTrue = ({ status }: NodeCondition): boolean => status === 'True';

t.test('the condition: first that nobody knows, then what is proved, and it follows what happens', { skip }, async (t) => {
  const { lab, node, proxy, start, conditionThat, condition } = await makePlace(t);
  const daemon = start();
  const blocked = await conditionThat(isTrue);
  t.match(blocked, { type: 'PodIMDSBlocked', reason: 'EveryPacketDropped', message: / \[boot [0-9a-f-]{36}\]$/ });
  const writes = proxy.asked({ method: 'PATCH', path: `/api/v1/nodes/${node}/status` }).map(({ body }) => (JSON.parse(body) as { status: { conditions: NodeCondition[] } }).status.conditions);
  t.match(writes[0], [{ status: 'Unknown', reason: 'AgentStarting' }]);
  t.ok(writes.every(({ length }) => length === 1), 'one entry, ours');
  t.match((await conditionsOf(server, node))['Ready'], kubeletIsReady, "the kubelet's own stands as it was");

  await must(lab, 'ip', 'link', 'add', 'link', 'ens5', 'name', 'eth9', 'netns', lab.pods.web.namespace, 'type', 'macvlan', 'mode', 'bridge');
  await lab.exec(lab.pods.web.namespace, 'ip', ['-batch', '-'], { stdin: 'link set eth9 up\naddr add 10.0.0.77/24 dev eth9\nroute replace default via 10.0.0.1 dev eth9\n' });
  await must(lab, 'iptables', '-F');
  await conditionThat(({ status, reason }) => status === 'False' && reason === 'PodReachedImds');

  await daemon.stop();
  t.match(await condition(), { status: 'Unknown', reason: 'AgentStopped' }, 'nobody watches any more');
  const events = ((await granted(server.admin('GET', '/api/v1/namespaces/default/events')))['items'] as { reason: string; message: string; involvedObject: { name: string } }[]).filter(({ involvedObject }) => involvedObject.name === node);
  t.match(events.find(({ reason }) => reason === 'RulesOverwritten'), { message: /iptables.*took away .*-i eni\+.*no packet could pass/ });
  t.ok(events.some(({ reason }) => reason === 'PodIMDSOpen'));
  t.same(proxy.asked().filter(({ method, path }) => method === 'GET' && path !== `/api/v1/nodes/${node}`), [], 'it reads its own Node, and nothing else');
  t.equal(proxy.asked().filter(({ query }) => /watch/.test(query)).length, 0);
});

t.test('faults of the API server are waited out, each', { skip }, async (t) => {
  const { node, proxy, start, conditionThat, rotateToken } = await makePlace(t);
  const written = { method: 'PATCH', path: `/api/v1/nodes/${node}/status` };
  await proxy.setConnections('refused');
  const daemon = start();
  await daemon.until(({ msg }) => /API server does not answer/.test(msg ?? ''));
  await proxy.setConnections('taken');
  proxy.fault({ answer: 500 }, { ...written, times: 1 });
  proxy.fault({ answer: 429, retryAfterSeconds: 1 }, { ...written, times: 1 });
  proxy.fault({ is: 'lose-answer' }, { ...written, times: 1 });
  await conditionThat(isTrue);
  t.same(proxy.asked(written).map(({ fault }) => (fault === 'passed' ? 'passed' : 'answer' in fault ? fault.answer : 'is' in fault ? fault.is : '')).slice(0, 4), [500, 429, 'lose-answer', 'passed']);

  const before = proxy.asked().at(-1)!.token;
  await rotateToken();
  proxy.fault({ answer: 401 }, { times: 1 });
  await daemon.stop();
  t.not(proxy.asked().at(-1)!.token, before, 'a token that the server does not know any more: the new one is read at once');
});

t.test('a Node that is deleted and comes back has its condition again', { skip }, async (t) => {
  const { lab, node, start, conditionThat } = await makePlace(t);
  start();
  await conditionThat(isTrue);
  await deleteNode(server, node);
  // Something to tell: the heartbeat is minutes away.
  await must(lab, 'ip', 'link', 'add', 'link', 'ens5', 'name', 'eth9', 'netns', lab.pods.web.namespace, 'type', 'macvlan', 'mode', 'bridge');
  await must(lab, 'iptables', '-F');
  await createNode(server, node);
  t.match(await conditionThat(({ status }) => status !== 'True'), { reason: /^(MayBypassNetfilter|PodReachedImds|EveryProbeDied)$/ });
});

t.test('whoever has no name of its node asks the API server: by a pod\'s token, and by kubelet\'s credentials', { skip }, async (t) => {
  const pod = await makePlace(t);
  pod.start([], '');
  await pod.conditionThat(isTrue);

  const host = await makePlace(t);
  const config = join(host.folder, 'kubeconfig');
  const daemon = startDaemon(host.lab, ['--kubeconfig', config]);
  t.teardown(() => daemon.stop());
  await daemon.until(({ msg }) => /kubeconfig .* cannot be read/.test(msg ?? ''));
  // Written by kubelet's installer, after us.
  writeFileSync(config, JSON.stringify({ 'current-context': 'it', contexts: [{ name: 'it', context: { cluster: 'it', user: 'kubelet' } }], clusters: [{ name: 'it', cluster: { server: host.proxy.url, 'certificate-authority': 'ca.crt' } }], users: [{ name: 'kubelet', user: { token: server.kubeletToken(host.node) } }] }));
  await host.conditionThat(isTrue);
  t.match(await daemon.statusThat(({ kubernetes }) => kubernetes?.node === host.node), { kubernetes: { node: host.node } });
});

t.test('the startup taint goes when the node is proved blocked, and no other', { skip }, async (t) => {
  // The variant of the chart gives this right, and a policy holds it to this one taint (test/cluster/rights.test.ts).
  const role = { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata: { name: 'untaint' }, rules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['patch'] }] };
  await granted(server.admin('POST', '/apis/rbac.authorization.k8s.io/v1/clusterroles', role));
  await granted(server.admin('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name: 'untaint' }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'untaint' }, subjects: [{ kind: 'ServiceAccount', name: ACCOUNT, namespace: NAMESPACE }] }));
  const taints = [{ key: 'other.example/taint', effect: 'NoSchedule' }, { key: 'imds-guard.dev/starting', effect: 'NoSchedule' }] as const;
  const { node, start, conditionThat } = await makePlace(t, { taints });
  const daemon = start(['--startup-taint', 'imds-guard.dev/starting']);
  await conditionThat(isTrue);
  await daemon.until(({ msg }) => /startup taint is taken away/.test(msg ?? ''));
  const { spec } = await granted(server.admin('GET', `/api/v1/nodes/${node}`));
  t.match((spec as { taints: { key: string }[] }).taints.map(({ key }) => key), ['other.example/taint']);
});
