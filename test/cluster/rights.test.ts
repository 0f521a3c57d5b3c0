// The rights of the checked-in manifests: what the agent does with them it may, what it does not do it may not, and without any
// one of them something that has a name fails.
import t from 'tap';
import { startApiServer, type ApiServer } from './api-server.ts';
import { missing } from './binaries.ts';
import { agentRights, creations } from './manifests.ts';
import { createNode, createPod } from './node.ts';
import { granted, type Ask } from './request.ts';

t.setTimeout(120_000);

const skip = await missing('etcd', 'kube-apiserver');
let server: ApiServer;
let agent: Ask;
const token = (pod: string): Promise<string> => server.tokenFor({ namespace: 'kube-system', serviceAccount: 'imds-guard', pod });
t.before(async () => {
  if (skip !== false) return;
  server = await startApiServer();
  for (const { path, body } of agentRights()) await granted(server.admin('POST', path, body));
  for (const node of ['own', 'other']) await createNode(server, node);
  await createPod(server, { namespace: 'kube-system', name: 'agent', node: 'own', serviceAccount: 'imds-guard' });
  agent = server.as(await token('agent'));
  // A policy is in force a moment after it is there.
  for (const deadline = performance.now() + 30_000; performance.now() < deadline; await new Promise((later) => setTimeout(later, 100))) {
    if ((await agent('PATCH', '/api/v1/nodes/other/status', condition())).status === 422) return;
  }
  throw new Error('the admission policy is not in force');
});
t.teardown(() => server?.stop());

const condition = (type = 'PodIMDSBlocked') => ({ status: { conditions: [{ type, status: 'True', reason: 'EveryPacketDropped', message: 'm', lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z' }] } });
const event = (name: string) => ({ metadata: { name, namespace: 'default' }, involvedObject: { kind: 'Node', name: 'own', uid: 'own' }, reason: 'PodIMDSOpen', message: 'm', type: 'Warning', source: { component: 'imds-guard' } });

t.test('what the agent does it may', { skip }, async (t) => {
  t.match(await agent('GET', '/api/v1/nodes/own'), { status: 200 });
  t.match(await agent('PATCH', '/api/v1/nodes/own/status', condition()), { status: 200 });
  t.match(await agent('POST', '/api/v1/namespaces/default/events', event('own.1')), { status: 201 });
  t.match(await agent('PATCH', '/api/v1/namespaces/default/events/own.1', { count: 2 }), { status: 200 });
});

t.test('what it does not do it may not', { skip }, async (t) => {
  const refused: readonly (readonly [string, ReturnType<Ask>, number, RegExp])[] = [
    ["another node's status", agent('PATCH', '/api/v1/nodes/other/status', condition()), 422, /Node that it runs on/],
    ['a condition that is not ours', agent('PATCH', '/api/v1/nodes/own/status', condition('Ready')), 422, /its own condition/],
    ['NetworkingReady, for which nodes are replaced', agent('PATCH', '/api/v1/nodes/own/status', condition('NetworkingReady')), 422, /its own condition/],
    ['capacity', agent('PATCH', '/api/v1/nodes/own/status', { status: { capacity: { cpu: '1' } } }), 422, /nothing else of the status/],
    ['labels, by way of the status', agent('PATCH', '/api/v1/nodes/own/status', { ...condition(), metadata: { labels: { a: 'b' } } }), 422, /nothing of the metadata/],
    ['a taint', agent('PATCH', '/api/v1/nodes/own', { spec: { taints: [] } }), 403, /cannot patch resource "nodes"/],
    ['a list of nodes', agent('GET', '/api/v1/nodes'), 403, /cannot list/],
    ['a node deleted', agent('DELETE', '/api/v1/nodes/own'), 403, /cannot delete/],
    ['pods', agent('GET', '/api/v1/pods'), 403, /cannot list/],
    ['secrets', agent('GET', '/api/v1/namespaces/kube-system/secrets'), 403, /cannot list/],
    ["another's token", agent('POST', '/api/v1/namespaces/kube-system/serviceaccounts/imds-guard/token', {}), 403, /cannot create/],
  ];
  for (const [what, answer, status, message] of refused) t.match(await answer, { status, body: { message } }, what);
});

t.test('a token that is bound to no pod writes nothing', { skip }, async (t) => {
  const loose = server.as(await server.tokenFor({ namespace: 'kube-system', serviceAccount: 'imds-guard' }));
  t.match(await loose('PATCH', '/api/v1/nodes/own/status', condition()), { status: 422, body: { message: /does not name its node/ } });
});

t.test('each right that is taken away is missed, by name', { skip }, async (t) => {
  const role = creations().find(({ body }) => body['kind'] === 'ClusterRole')!;
  const path = `${role.path}/imds-guard`;
  const rules = role.body['rules'] as { apiGroups: string[]; resources: string[]; verbs: string[] }[];
  const does: Readonly<Record<string, () => ReturnType<Ask>>> = {
    'get nodes': () => agent('GET', '/api/v1/nodes/own'),
    'patch nodes/status': () => agent('PATCH', '/api/v1/nodes/own/status', condition()),
    'create events': () => agent('POST', '/api/v1/namespaces/default/events', event(`own.${Math.random().toString(36).slice(2)}`)),
    'patch events': () => agent('PATCH', '/api/v1/namespaces/default/events/own.1', { count: 3 }),
  };
  const rights = rules.flatMap(({ resources, verbs }) => resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)));
  t.same([...rights].sort(), Object.keys(does).sort(), 'no right is there that nothing here needs');
  for (const right of rights) {
    const [verb, resource] = right.split(' ') as [string, string];
    const fewer = rules.map((rule) => (rule.resources.includes(resource) ? { ...rule, verbs: rule.verbs.filter((one) => one !== verb) } : rule)).filter(({ verbs }) => verbs.length > 0);
    await granted(server.admin('PATCH', path, { rules: fewer }, { 'content-type': 'application/merge-patch+json' }));
    let answer = await does[right]!();
    // RBAC too takes a moment.
    for (const deadline = performance.now() + 20_000; answer.status !== 403 && performance.now() < deadline; answer = await does[right]!()) await new Promise((later) => setTimeout(later, 50));
    t.match(answer, { status: 403, body: { message: new RegExp(`cannot ${verb} resource "${resource}"`) } }, right);
    await granted(server.admin('PATCH', path, { rules }, { 'content-type': 'application/merge-patch+json' }));
  }
});

t.test('every object of the manifests is taken by the server', { skip }, async (t) => {
  for (const { path, body } of creations()) {
    const answer = await server.admin('PATCH', `${path}/${body['metadata'].name}?dryRun=All&fieldManager=test&force=true&fieldValidation=Strict`, body, { 'content-type': 'application/apply-patch+yaml' });
    t.ok(answer.status === 200 || answer.status === 201, `${body['kind']}: ${answer.status} ${answer.body['message'] ?? ''}`);
    t.notOk(answer.headers['warning'], String(answer.headers['warning'] ?? ''));
  }
});
