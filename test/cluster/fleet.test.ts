// `imds-guard fleet` before a real API server.
import t from 'tap';
import { execa } from 'execa';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { program } from '../kernel/guard.ts';
import { startApiServer, type ApiServer } from './api-server.ts';
import { binary, missing } from './binaries.ts';
import { createNode } from './node.ts';
import { granted } from './request.ts';

t.setTimeout(120_000);

const skip = await missing('etcd', 'kube-apiserver');
const BOOT = '0f5c1a2b-0000-4000-8000-000000000001';
let server: ApiServer;
let folder: string;
t.before(async () => {
  if (skip !== false) return;
  server = await startApiServer();
  folder = mkdtempSync(join(tmpdir(), 'imds-guard-fleet-'));
});
t.teardown(async () => {
  await server?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

/** As a person has it; `user` decides how they show who they are. */
function kubeconfig(name: string, user: unknown, cluster: Readonly<Record<string, unknown>> = { 'certificate-authority': server.caFile }): string {
  const file = join(folder, name);
  writeFileSync(file, JSON.stringify({ 'current-context': 'it', contexts: [{ name: 'it', context: { cluster: 'it', user: 'me' } }], clusters: [{ name: 'it', cluster: { server: server.url, ...cluster } }], users: [{ name: 'me', user }] }));
  return file;
}
const fleet = (config: string, ...args: readonly string[]) => execa(program, ['fleet', '--kubeconfig', config, ...args], { reject: false, env: { HOME: folder } });

async function tell(node: string, status: 'True' | 'False' | 'Unknown', reason: string, { ageMs = 0, boot = BOOT } = {}): Promise<void> {
  const at = new Date(Date.now() - ageMs).toISOString().replace(/\.\d+/, '');
  await granted(server.admin('PATCH', `/api/v1/nodes/${node}/status`, {
    status: { nodeInfo: { bootID: BOOT }, conditions: [{ type: 'PodIMDSBlocked', status, reason, message: `because of ${node} [boot ${boot}]`, lastHeartbeatTime: at, lastTransitionTime: at }] },
  }));
}

t.test('each node by what its condition is worth now', { skip }, async (t) => {
  for (const name of ['well', 'stale', 'rebooted', 'none', 'open', 'doubtful']) await createNode(server, name);
  await createNode(server, 'windows', { labels: { 'kubernetes.io/os': 'windows' } });
  await createNode(server, 'fargate', { labels: { 'eks.amazonaws.com/compute-type': 'fargate' } });
  await tell('well', 'True', 'EveryPacketDropped');
  await tell('stale', 'True', 'EveryPacketDropped', { ageMs: 700_000 });
  await tell('rebooted', 'True', 'EveryPacketDropped', { boot: '0f5c1a2b-0000-4000-8000-000000000002' });
  await tell('open', 'False', 'PacketPasses');
  await tell('doubtful', 'Unknown', 'MayBypassNetfilter');
  const config = kubeconfig('token', { token: server.adminToken });
  const said = await fleet(config, '--output', 'json');
  const { nodes, ...rest } = JSON.parse(said.stdout) as { nodes: { name: string; answer: string; reason: string }[] };
  t.match({ exit: said.exitCode, ...rest }, { exit: 1, answer: 'open', totals: { blocked: 1, open: 1, unknown: 4 }, leftOut: 2 });
  t.same(Object.fromEntries(nodes.map(({ name, answer, reason }) => [name, `${answer} ${reason}`])), {
    open: 'open PacketPasses', doubtful: 'unknown MayBypassNetfilter', none: 'unknown NoCondition', rebooted: 'unknown OtherBoot', stale: 'unknown StaleHeartbeat', well: 'blocked EveryPacketDropped',
  });
  t.equal(nodes[0]?.name, 'open', 'whoever wants somebody comes first');
  const text = await fleet(config);
  t.match(text.stdout, /^open +open +\d+s +PacketPasses +because of open$/m);
  t.match(text.stdout, /^open: 1 blocked, 1 open, 4 unknown of 6 nodes; 2 without IMDS or Linux left out$/m);
  t.match(await fleet(config, '--selector', 'kubernetes.io/hostname=well'), { exitCode: 0, stdout: /blocked: 1 blocked/ });
  t.match(await fleet(config, '--selector', 'kubernetes.io/hostname=nobody'), { exitCode: 2 });
});

t.test('kubectl describes it, and has fleet as a plugin', { skip: skip === false ? await missing('kubectl') : skip }, async (t) => {
  const kubectl = await binary('kubectl');
  if ('missing' in kubectl) return;
  await createNode(server, 'described');
  await tell('described', 'True', 'EveryPacketDropped');
  const config = kubeconfig('kubectl', { token: server.adminToken });
  const run = (...args: readonly string[]) => execa(kubectl.program, args, { reject: false, env: { KUBECONFIG: config, HOME: folder, PATH: `${dirname(program)}:${process.env['PATH'] ?? ''}` } });
  t.match(await run('describe', 'node', 'described'), { exitCode: 0, stdout: /^ +PodIMDSBlocked +True .*EveryPacketDropped +because of described \[boot /m });
  t.match(await run('imds-guard', '--selector', 'kubernetes.io/hostname=described'), { exitCode: 0, stdout: /blocked: 1 blocked, 0 open, 0 unknown of 1 nodes/ });
});

t.test('whoever they are: a token, a file with one, a plugin', { skip }, async (t) => {
  writeFileSync(join(folder, 'the-token'), `${server.adminToken}\n`);
  writeFileSync(join(folder, 'plugin'), `#!/bin/sh\necho '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'$TOKEN'"}}'\n`, { mode: 0o755 });
  for (const [name, user] of [['file', { tokenFile: 'the-token' }], ['exec', { exec: { apiVersion: 'client.authentication.k8s.io/v1', command: join(folder, 'plugin'), env: [{ name: 'TOKEN', value: server.adminToken }] } }]] as const) {
    t.match(await fleet(kubeconfig(name, user)), { exitCode: 1, stderr: '' }, name);
  }
});

t.test('what is wrong is one line, and unknown', { skip }, async (t) => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['nobody', kubeconfig('nobody', {}), /nodes cannot be listed: .*(Unauthorized|forbidden|anonymous)/],
    ['a token that is none', kubeconfig('bad', { token: 'x' }), /nodes cannot be listed: Unauthorized/],
    ['a server that is not to be trusted', kubeconfig('untrusted', { token: server.adminToken }, {}), /self-signed certificate/],
    ['no server', kubeconfig('away', { token: 'x' }, { 'certificate-authority': server.caFile, server: 'https://127.0.0.1:1' }), /ECONNREFUSED/],
    ['no file', join(folder, 'nothing'), /kubeconfig .*nothing cannot be read/],
    ['a plugin that fails', kubeconfig('fails', { exec: { command: 'false' } }), /credential plugin false failed/],
  ];
  for (const [name, config, message] of cases) {
    const { exitCode, stdout, stderr } = await fleet(config);
    t.match({ exitCode, stdout, lines: stderr.trim().split('\n').length, stderr }, { exitCode: 2, stdout: '', lines: 1, stderr: message }, name);
  }
  t.match(await fleet(kubeconfig('contexts', {}), '--context', 'other'), { exitCode: 2, stderr: /no context other; there are it/ });
});
