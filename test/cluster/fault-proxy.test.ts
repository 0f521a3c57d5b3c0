// Each fault is what it says, as a client sees it, and the real server does its work as soon as there is none.
import t, { type Test } from 'tap';
import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { makeLab } from '../lab/lab.ts';
import { startApiServer, type ApiServer } from './api-server.ts';
import { missing } from './binaries.ts';
import { startFaultProxy, type FaultProxyOptions } from './fault-proxy.ts';
import { createNode } from './node.ts';
import { asker, granted, type Answer } from './request.ts';

t.setTimeout(120_000);

const skip = await missing('etcd', 'kube-apiserver');
let server: ApiServer;
t.before(async () => {
  if (skip === false) server = await startApiServer();
});
t.teardown(() => server?.stop());

async function makeProxy(t: Test, options: FaultProxyOptions = {}) {
  const proxy = await startFaultProxy(server, options);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(async () => {
    agent.destroy();
    await proxy.stop();
  });
  return { proxy, ask: asker(proxy.url, readFileSync(proxy.caFile, 'utf8'), server.adminToken, agent) };
}

/** How a request fails: by the code of its error. */
const failure = (answer: Promise<Answer>): Promise<string> => answer.then(({ status }) => `answered ${status}`, (error: NodeJS.ErrnoException) => error.code ?? error.message);

const aWhileMs = 300;
/** That nothing comes can only be waited for. */
const isSilent = (answer: Promise<unknown>): Promise<boolean> =>
  Promise.race([answer.then(() => false, () => false), new Promise<boolean>(resolve => setTimeout(resolve, aWhileMs, true))]);

t.test('without a fault it is the server, and tells what was asked of it', { skip }, async t => {
  const { proxy, ask } = await makeProxy(t);
  await createNode(server, 'passed');
  const patch = { metadata: { labels: { seen: 'yes' } } };
  t.match(await ask('PATCH', '/api/v1/nodes/passed?fieldManager=test', patch, { 'user-agent': 'a test' }), { status: 200, body: { metadata: { labels: patch.metadata.labels } } });
  t.match(await ask('GET', '/api/v1/nodes/nobody'), { status: 404, body: { reason: 'NotFound' } });
  t.match(proxy.asked({ method: 'PATCH' }), [
    { path: '/api/v1/nodes/passed', query: '?fieldManager=test', token: server.adminToken, contentType: 'application/strategic-merge-patch+json', userAgent: 'a test', body: JSON.stringify(patch), fault: 'passed' },
  ]);
  t.equal(proxy.asked({ path: /^\/api\/v1\/nodes\// }).length, 2);
  t.equal(proxy.asked({ method: 'GET', path: '/api/v1/nodes/passed' }).length, 0);
  t.equal(proxy.connections(), 1, 'one connection for both');
});

t.test('a watch goes through while it lasts', { skip }, async t => {
  const { proxy, ask } = await makeProxy(t);
  const watching = ask('GET', '/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1');
  await proxy.untilAsked({ path: '/api/v1/namespaces/default/configmaps' });
  await granted(server.admin('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name: 'watched' } }));
  t.match(await watching, { status: 200, text: /"type":"ADDED".*"name":"watched"/ });
});

t.test('so many requests of those selected are refused, in words that the server would use', { skip }, async t => {
  const { proxy, ask } = await makeProxy(t);
  const get = () => ask('GET', '/api/v1/namespaces/default');
  proxy.fault({ answer: 401 }, { times: 2, method: 'GET' });
  t.match(await ask('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name: 'unselected' } }), { status: 201 });
  t.match(await get(), { status: 401, body: { kind: 'Status', reason: 'Unauthorized', code: 401 } });
  t.equal((await get()).status, 401);
  t.equal((await get()).status, 200);
  proxy.fault({ answer: 409 }, { times: 1 });
  proxy.fault({ answer: 429, retryAfterSeconds: 7 }, { times: 1 });
  proxy.fault({ answer: 500 });
  t.match(await get(), { status: 409, body: { reason: 'Conflict' } });
  t.match(await get(), { status: 429, headers: { 'retry-after': '7' }, body: { reason: 'TooManyRequests', details: { retryAfterSeconds: 7 } } });
  for (const _ of [1, 2, 3]) t.match(await get(), { status: 500, body: { reason: 'InternalError' } });
  proxy.pass();
  t.equal((await get()).status, 200);
  t.same(proxy.asked({ method: 'GET' }).map(({ fault }) => (fault === 'passed' ? fault : 'answer' in fault ? fault.answer : fault)), [401, 401, 'passed', 409, 429, 500, 500, 500, 'passed']);
});

t.test('an answer that does not come, comes late, or comes in part', { skip }, async t => {
  const { proxy, ask } = await makeProxy(t);
  const get = () => ask('GET', '/api/v1/namespaces/default');
  proxy.fault({ is: 'reset' }, { times: 1 });
  t.equal(await failure(get()), 'ECONNRESET');
  proxy.fault({ delayMs: 200 }, { times: 1 });
  const askedAtMs = performance.now();
  t.equal((await get()).status, 200);
  t.ok(performance.now() - askedAtMs >= 199, 'not before its time');
  proxy.fault({ is: 'cut-answer' }, { times: 1 });
  t.equal(await failure(get()), 'ECONNRESET');
  proxy.fault({ is: 'hang' }, { times: 1 });
  const hanging = get();
  await proxy.untilAsked({}, { since: 3 });
  t.ok(await isSilent(hanging));
  proxy.forgetConnections();
  t.equal(await failure(hanging), 'ECONNRESET');
  t.equal((await get()).status, 200);
});

t.test('a lost answer: the server has done what it was asked', { skip }, async t => {
  const { proxy, ask } = await makeProxy(t);
  proxy.fault({ is: 'lose-answer' }, { times: 1 });
  const post = () => ask('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name: 'lost' } });
  t.equal(await failure(post()), 'ECONNRESET');
  t.equal((await server.admin('GET', '/api/v1/namespaces/default/configmaps/lost')).status, 200);
  t.match(await post(), { status: 409, body: { reason: 'AlreadyExists' } });
});

t.test('connections that are refused, reset, or made and left in silence; then taken on the same port', { skip }, async t => {
  const { proxy } = await makeProxy(t);
  // Not by one that is kept alive: its reset may be seen only when it is used again.
  const get = () => asker(proxy.url, readFileSync(proxy.caFile, 'utf8'), server.adminToken, new Agent())('GET', '/api/v1/namespaces/default');
  t.equal((await get()).status, 200);
  await proxy.setConnections('refused');
  t.equal(await failure(get()), 'ECONNREFUSED');
  t.equal(proxy.connections(), 1);
  await proxy.setConnections('reset');
  t.equal(await failure(get()), 'ECONNRESET');
  await proxy.setConnections('silent');
  const waiting = get();
  t.ok(await isSilent(waiting));
  await proxy.setConnections('taken');
  proxy.forgetConnections();
  t.equal(await failure(waiting), 'ECONNRESET');
  t.equal((await get()).status, 200);
  t.equal(proxy.asked().length, 2, 'the others never got so far as to ask');
});

t.test('who is not asked in time is told what was', { skip }, async t => {
  const { proxy, ask } = await makeProxy(t);
  await ask('GET', '/version');
  t.match(await proxy.untilAsked({ method: 'GET' }), { path: '/version' });
  await t.rejects(proxy.untilAsked({ method: 'PATCH' }, { withinMs: 10 }), { message: /PATCH .*GET \/version/ });
});

/** Says how a request for the server's version ends: a status, or the code of an error. */
const asking = `
  process.getBuiltinModule('node:https').get(process.argv[1] + '/version', answer => { console.log(answer.statusCode); answer.resume(); })
    .on('error', error => console.log(error.code));`;

t.test("in a lab node's network it is there, on its loopback, and nowhere else", { skip }, async t => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const { proxy, ask } = await makeProxy(t, { namespace: lab.node });
  const askFrom = async (namespace: string): Promise<string> => {
    const { stdout } = await lab.exec(namespace, process.execPath, ['-e', asking, proxy.url], { env: { NODE_EXTRA_CA_CERTS: proxy.caFile, NODE_OPTIONS: '' } });
    return stdout.trim();
  };
  t.equal(await askFrom(lab.node), '200');
  t.equal(await askFrom(lab.pods.web.namespace), 'ECONNREFUSED');
  t.equal(await failure(ask('GET', '/version')), 'ECONNREFUSED', 'not in the network of the server');
  await proxy.setConnections('refused');
  t.equal(await askFrom(lab.node), 'ECONNREFUSED');
  await proxy.setConnections('taken');
  t.equal(await askFrom(lab.node), '200');
  await t.rejects(startFaultProxy(server, { namespace: lab.node, port: proxy.port }), { message: /EADDRINUSE/ });
});
