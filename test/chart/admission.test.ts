// What the chart's options bring, on a real API server. What it renders without them is tried in test/cluster/rights.test.ts.
import t from 'tap';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { missing } from '../cluster/binaries.ts';
import { createNode, createPod } from '../cluster/node.ts';
import { type Answer, granted } from '../cluster/request.ts';
import { type KubeObject, noHelm, objects } from './helm.ts';

const skip = noHelm || (await missing('etcd', 'kube-apiserver'));
const taint = 'readiness.k8s.io/imds-guard';

const groups: Readonly<Record<string, string>> = {
  ServiceAccount: 'serviceaccounts', DaemonSet: 'daemonsets', Service: 'services', ConfigMap: 'configmaps',
  ClusterRole: 'clusterroles', ClusterRoleBinding: 'clusterrolebindings',
  ValidatingAdmissionPolicy: 'validatingadmissionpolicies', ValidatingAdmissionPolicyBinding: 'validatingadmissionpolicybindings',
};

function pathOf({ apiVersion, kind, metadata }: KubeObject): string | undefined {
  const plural = groups[String(kind)];
  if (plural === undefined) return undefined;
  const api = String(apiVersion).includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return metadata.namespace === undefined ? `${api}/${plural}` : `${api}/namespaces/${metadata.namespace}/${plural}`;
}

const agentPath = '/api/v1/nodes/one';
const condition = (type: string, status = 'True'): object => ({ status: { conditions: [{ type, status, reason: 'EveryPacketDropped', message: 'm', lastHeartbeatTime: '2026-11-24T12:00:00Z', lastTransitionTime: '2026-11-24T12:00:00Z' }] } });
const messageOf = ({ body }: Answer): string => String(body['message']);

async function serve(t: { teardown(end: () => unknown): void }, ...values: readonly string[]): Promise<{ readonly server: ApiServer; readonly token: string }> {
  const server = await startApiServer();
  t.teardown(() => server.stop());
  for (const object of objects(...values)) {
    const path = pathOf(object);
    if (path !== undefined) await granted(server.admin('POST', path, object));
  }
  for (const name of ['one', 'two']) await createNode(server, name, { taints: [{ key: taint, value: 'pending', effect: 'NoSchedule' }, { key: 'other', effect: 'NoSchedule' }] });
  await createPod(server, { namespace: 'kube-system', name: 'agent-one', node: 'one', serviceAccount: 'imds-guard' });
  const token = await server.tokenFor({ namespace: 'kube-system', serviceAccount: 'imds-guard', pod: 'agent-one' });
  // A policy is in force a moment after it is written: until writes that they must refuse are refused.
  const passes = async (path: string, body: object): Promise<boolean> => (await server.as(token)('PATCH', `${path}?dryRun=All`, body)).status === 200;
  for (const deadline = performance.now() + 20_000; (await passes('/api/v1/nodes/two/status', condition('Probe'))) || (await passes('/api/v1/nodes/two', { metadata: { labels: { probe: 'a' } } })); await new Promise(later => setTimeout(later, 100))) {
    if (performance.now() > deadline) throw new Error('the policies are not in force after 20 s');
  }
  return { server, token };
}

t.test('an API server takes every object of the chart, with every option', { skip, timeout: 120_000 }, async t => {
  const server = await startApiServer();
  t.teardown(() => server.stop());
  const variants = [
    [],
    ['startupTaint.enabled=true', 'metrics.enabled=true', 'metrics.serviceMonitor.enabled=true', 'dashboard.enabled=true', 'settings.layout=chain'],
    ['settings.mode=observe', 'settings.probe=false', 'kubernetes.enabled=false', 'nodeSelector.a=b', 'appArmorProfile.type=Unconfined', 'seLinuxOptions.type=super_t'],
    ['uninstall.enabled=true'],
  ];
  for (const values of variants) {
    for (const object of objects(...values)) {
      const path = pathOf(object);
      if (path === undefined) continue; // of a CustomResourceDefinition, which this server does not have
      const answer = await server.admin('POST', `${path}?dryRun=All&fieldValidation=Strict`, object);
      t.equal(answer.status, 201, `${object['kind']} ${object['metadata'].name} with ${values.join(',') || 'nothing set'}: ${answer.status === 201 ? 'taken' : messageOf(answer)}`);
      t.same(answer.headers['warning'] ?? [], [], 'and has nothing to say about it');
    }
  }
});

t.test('with a startup taint it may take that one away, and nothing else', { skip, timeout: 120_000 }, async t => {
  const { server, token } = await serve(t, 'startupTaint.enabled=true');
  const agent = server.as(token);
  const json = { 'content-type': 'application/json-patch+json' };
  // The server puts one of its own beside them, for a node that nobody has called ready.
  const taints = (await granted(server.admin('GET', agentPath)))['spec'].taints as readonly { readonly key: string }[];
  const others = taints.filter(({ key }) => key !== taint);
  const to = (taints: readonly object[]): object => [{ op: 'replace', path: '/spec/taints', value: taints }];
  const refused: readonly (readonly [string, string, object, RegExp])[] = [
    ['another one', agentPath, to(taints.filter(({ key }) => key !== 'other')), /take away the taint readiness.k8s.io\/imds-guard, and change no other/],
    ['all', agentPath, to([]), /change no other/],
    ['one more', agentPath, to([...taints, { key: 'third', effect: 'NoExecute' }]), /change no other/],
    ["another node's", '/api/v1/nodes/two', to(others), /the Node that it runs on, and to no other/],
    ['to cordon', agentPath, [{ op: 'add', path: '/spec/unschedulable', value: true }], /nothing else of the spec/],
    ['a label', agentPath, [{ op: 'add', path: '/metadata/labels/role', value: 'x' }], /nothing of the metadata/],
  ];
  for (const [what, path, body, why] of refused) {
    const answer = await agent('PATCH', path, body, json);
    t.match({ status: answer.status, message: messageOf(answer) }, { status: 422, message: why }, what);
  }
  t.equal((await agent('PATCH', agentPath, to(others), json)).status, 200, 'ours');
  const node = await granted(server.admin('GET', agentPath));
  t.same(node['spec'].taints, others);
});

t.test('the condition that an agent left behind is taken away as the page says', { skip, timeout: 60_000 }, async t => {
  const server = await startApiServer();
  t.teardown(() => server.stop());
  await createNode(server, 'one');
  await granted(server.admin('PATCH', `${agentPath}/status`, condition('PodIMDSBlocked')));
  await granted(server.admin('PATCH', `${agentPath}/status`, { status: { conditions: [{ type: 'PodIMDSBlocked', $patch: 'delete' }] } }));
  const { status } = await granted(server.admin('GET', agentPath));
  t.same((status.conditions as readonly { readonly type: string }[]).map(({ type }) => type), ['Ready']);
});
