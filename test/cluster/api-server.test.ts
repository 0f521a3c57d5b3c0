// What every other test of a cluster takes for granted: that the API server is a real one, and says no where a real one does.
import t from 'tap';
import { existsSync, readFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startApiServer, type ApiServer } from './api-server.ts';
import { missing } from './binaries.ts';
import { conditionsOf, createNamespace, createNode, createPod, createServiceAccount, deleteNode, deletePod } from './node.ts';
import { granted } from './request.ts';

t.setTimeout(120_000);

const skip = await missing('etcd', 'kube-apiserver');
let server: ApiServer;
t.before(async () => {
  if (skip === false) server = await startApiServer({ kubelets: ['kubelets-own'] });
});
t.teardown(() => server?.stop());

const ours = { type: 'PodIMDSBlocked', status: 'True', reason: 'Blocked', message: 'every packet is dropped' };
const statusOf = (node: string): string => `/api/v1/nodes/${node}/status`;
const nodeName = 'authentication.kubernetes.io/node-name';

/** A namespace, an account, and pods `on-<node>` of it on nodes that are made too. */
async function settle(namespace: string, ...nodes: readonly string[]): Promise<void> {
  await createNamespace(server, namespace);
  await createServiceAccount(server, namespace, 'agent');
  for (const node of nodes) {
    await createNode(server, node);
    await createPod(server, { namespace, name: `on-${node}`, node, serviceAccount: 'agent' });
  }
}
const tokenOn = (namespace: string, node: string): Promise<string> => server.tokenFor({ namespace, serviceAccount: 'agent', pod: `on-${node}` });

/** Lets an account patch the status of every node: RBAC knows no "its own". */
async function letPatchStatus(namespace: string): Promise<void> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const metadata = { name: `${namespace}-status` };
  await granted(server.admin('POST', `${rbac}/clusterroles`, { metadata, rules: [{ apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] }] }));
  await granted(
    server.admin('POST', `${rbac}/clusterrolebindings`, {
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name },
      subjects: [{ kind: 'ServiceAccount', namespace, name: 'agent' }],
    }),
  );
}

t.test('it is the version that go.mod names, and objects that no schema allows are refused', { skip }, async t => {
  const [, required] = /^\s*k8s\.io\/kubernetes (v\S+)/m.exec(readFileSync(new URL('go.mod', import.meta.url), 'utf8')) ?? [];
  t.equal((await server.admin('GET', '/version')).body['gitVersion'], required);
  const { status, body } = await server.admin('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'No Name' } });
  t.match({ status, reason: body['reason'] }, { status: 422, reason: 'Invalid' });
});

t.test("a strategic merge of one condition leaves another's as it was; a JSON merge does not", { skip }, async t => {
  await createNode(server, 'merged');
  await granted(server.admin('PATCH', statusOf('merged'), { status: { conditions: [ours] } }));
  t.match(await conditionsOf(server, 'merged'), { Ready: { status: 'True', reason: 'KubeletReady' }, PodIMDSBlocked: ours });
  await granted(server.admin('PATCH', statusOf('merged'), { status: { conditions: [{ ...ours, status: 'False' }] } }));
  t.match(await conditionsOf(server, 'merged'), { Ready: { status: 'True' }, PodIMDSBlocked: { status: 'False' } });
  await granted(server.admin('PATCH', statusOf('merged'), { status: { conditions: [ours] } }, { 'content-type': 'application/merge-patch+json' }));
  t.same(Object.keys(await conditionsOf(server, 'merged')), ['PodIMDSBlocked']);
  await deleteNode(server, 'merged');
  t.equal((await server.admin('PATCH', statusOf('merged'), { status: { conditions: [ours] } })).status, 404);
});

t.test('the token of a pod says on which node it runs, and dies with the pod', { skip }, async t => {
  await settle('claims', 'claimed');
  const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
  const whoAmI = async (token: string) => (await server.as(token)('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', review)).body['status']?.userInfo;
  const ofPod = await tokenOn('claims', 'claimed');
  t.match(await whoAmI(ofPod), {
    username: 'system:serviceaccount:claims:agent',
    extra: { [nodeName]: ['claimed'], 'authentication.kubernetes.io/pod-name': ['on-claimed'] },
  });
  t.match(await whoAmI(await server.tokenFor({ namespace: 'claims', serviceAccount: 'agent', node: 'claimed' })), { extra: { [nodeName]: ['claimed'] } });
  const unbound = await whoAmI(await server.tokenFor({ namespace: 'claims', serviceAccount: 'agent' }));
  t.match(unbound, { username: 'system:serviceaccount:claims:agent' });
  t.notOk(nodeName in unbound.extra, 'a token that is bound to nothing names no node');

  await createPod(server, { namespace: 'claims', name: 'deleted', node: 'claimed', serviceAccount: 'agent' });
  const ofDeleted = await server.tokenFor({ namespace: 'claims', serviceAccount: 'agent', pod: 'deleted' });
  await deletePod(server, 'claims', 'deleted');
  // A token that has been shown before is taken for ten seconds more, for the server remembers it.
  t.equal(await untilStatus(() => server.as(ofDeleted)('GET', '/api'), 401), 401);
});

t.test('who has no role is refused, and a role grants what it names and nothing else', { skip }, async t => {
  await settle('roles', 'ruled');
  const agent = server.as(await tokenOn('roles', 'ruled'));
  const patch = () => agent('PATCH', statusOf('ruled'), { status: { conditions: [ours] } });
  t.match(await patch(), { status: 403, body: { reason: 'Forbidden', message: /cannot patch resource "nodes\/status"/ } });
  await letPatchStatus('roles');
  t.equal(await untilStatus(patch, 200), 200);
  t.equal((await agent('GET', '/api/v1/nodes/ruled')).status, 403);
  t.equal((await agent('PATCH', '/api/v1/nodes/ruled', { metadata: { labels: { taken: 'over' } } })).status, 403);
  t.equal((await server.as('nobody-knows-this')('GET', '/api/v1/nodes/ruled')).status, 401);
});

t.test("a kubelet patches its own node's status, and no other's", { skip }, async t => {
  for (const node of ['kubelets-own', 'kubelets-other']) await createNode(server, node);
  const kubelet = server.as(server.kubeletToken('kubelets-own'));
  const patch = async (node: string) => (await kubelet('PATCH', statusOf(node), { status: { conditions: [ours] } })).status;
  t.same([await patch('kubelets-own'), await patch('kubelets-other')], [200, 403]);
  t.throws(() => server.kubeletToken('kubelets-other'), { message: /kubelets-other/ });
});

t.test('an admission policy holds an account to the node of its token', { skip }, async t => {
  await settle('held', 'held-own', 'held-other');
  await letPatchStatus('held');
  const patch = async (token: string, node: string) => {
    const { status, body } = await server.as(token)('PATCH', statusOf(node), { status: { conditions: [ours] } });
    return { status, message: (body['message'] as string | undefined) ?? '' };
  };
  const [own, unbound] = [await tokenOn('held', 'held-own'), await server.tokenFor({ namespace: 'held', serviceAccount: 'agent' })];
  await untilStatus(() => patch(own, 'held-other'), 200);
  t.equal((await patch(own, 'held-other')).status, 200, 'RBAC alone lets it write to every node');

  const policies = '/apis/admissionregistration.k8s.io/v1';
  await granted(
    server.admin('POST', `${policies}/validatingadmissionpolicies`, {
      metadata: { name: 'own-node' },
      spec: {
        failurePolicy: 'Fail',
        matchConstraints: { resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['UPDATE'], resources: ['nodes/status'] }] },
        matchConditions: [{ name: 'agent', expression: 'request.userInfo.username == "system:serviceaccount:held:agent"' }],
        variables: [{ name: 'hasNode', expression: `'${nodeName}' in request.userInfo.extra` }],
        validations: [
          { expression: 'variables.hasNode', message: 'the token names no node' },
          { expression: `!variables.hasNode || object.metadata.name == request.userInfo.extra['${nodeName}'][0]`, message: 'this is another node' },
        ],
      },
    }),
  );
  await granted(server.admin('POST', `${policies}/validatingadmissionpolicybindings`, { metadata: { name: 'own-node' }, spec: { policyName: 'own-node', validationActions: ['Deny'] } }));
  await untilStatus(() => patch(own, 'held-other'), 422);
  t.match(await patch(own, 'held-other'), { status: 422, message: /this is another node/ });
  t.match(await patch(unbound, 'held-own'), { status: 422, message: /the token names no node/ });
  t.match(await patch(own, 'held-own'), { status: 200 });
  t.match(await server.admin('PATCH', statusOf('held-other'), { status: { conditions: [ours] } }), { status: 200 }, 'nobody else is held');
});

const starting = `
  const { startApiServer } = await import(${JSON.stringify(fileURLToPath(new URL('api-server.ts', import.meta.url)))});
  const { pids, caFile } = await startApiServer();
  process.send({ pids, caFile });
  setInterval(() => {}, 1000);`;

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  t.test(`a test that is ended by ${signal} leaves no server, no etcd and no folder`, { skip }, async t => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', starting], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ pids, caFile }] = (await once(child, 'message')) as [Pick<ApiServer, 'pids' | 'caFile'>];
    const folder = dirname(dirname(caFile));
    t.ok(existsSync(folder) && isAlive(pids.etcd) && isAlive(pids.server));
    child.kill(signal);
    await once(child, 'exit');
    await until(() => !isAlive(pids.etcd) && !isAlive(pids.server) && !existsSync(folder));
    t.same([isAlive(pids.etcd), isAlive(pids.server), existsSync(folder)], [false, false, false]);
  });
}

function isAlive(pid: number): boolean {
  try {
    // A zombie is dead: whoever adopts orphans here may be slow to bury it.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

const pauseMs = 20;

/** The server hears of its own changes by watching its storage, a moment later; and no strangers' end is told to us. */
async function until(is: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await is()) && performance.now() < deadline) await new Promise(later => setTimeout(later, pauseMs));
}

/** Asks until the answer has this status, and returns the last one. */
async function untilStatus(ask: () => Promise<{ readonly status: number }>, wanted: number): Promise<number> {
  let last = 0;
  await until(async () => (last = (await ask()).status) === wanted);
  return last;
}
