// A real node-problem-detector with the plugin file that is handed out, before a real API server. The node is the sandbox's own
// network: rules are written there, and gone with it.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program } from '../kernel/guard.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { binary, missing } from './binaries.ts';
import { makeDependents } from './dependents.ts';
import { type NodeCondition, conditionsOf, createNode } from './node.ts';

const skip = await missing('etcd', 'kube-apiserver', 'node-problem-detector');
const folder = fileURLToPath(new URL('../../daemonset/node-problem-detector/', import.meta.url));
const TYPE = 'PodsCanReachIMDS';

interface PluginFile {
  readonly pluginConfig: { readonly invoke_interval: string; readonly timeout: string; readonly skip_initial_status: boolean };
  readonly conditions: readonly { readonly type: string }[];
  readonly rules: readonly { readonly path: string; readonly args: readonly string[]; readonly timeout: string }[];
}
const handedOut = JSON.parse(readFileSync(join(folder, 'imds-guard.json'), 'utf8')) as PluginFile;

t.test('the plugin file', async t => {
  t.same(handedOut.conditions.map(({ type }) => type), [TYPE], 'never PodIMDSBlocked, which is the agent\'s');
  for (const { timeout, path } of handedOut.rules) t.match({ timeout, path }, { timeout: handedOut.pluginConfig.timeout, path: '/opt/imds-guard/imds-guard' });
  t.equal(handedOut.pluginConfig.timeout, '5s', 'which is the most that a plugin may take by default');
  t.equal(handedOut.pluginConfig.skip_initial_status, true, 'and nothing is said of a node before it was looked at');
});

t.test('node-problem-detector keeps the condition by it', { skip, timeout: 120_000 }, async t => {
  const server = await startApiServer();
  t.teardown(() => server.stop());
  await createNode(server, 'npd-node');
  const dependents = makeDependents();
  t.teardown(() => dependents.end());
  // The same file, where the program is here, and asked more often.
  const plugin = join(dependents.folder, 'imds-guard.json');
  const fake = join(dependents.folder, 'imds-guard');
  writeFileSync(fake, `#!/bin/sh\nexec ${program} "$@"\n`, { mode: 0o755 });
  writeFileSync(plugin, JSON.stringify({ ...handedOut, pluginConfig: { ...handedOut.pluginConfig, invoke_interval: '1s' }, rules: handedOut.rules.map(rule => ({ ...rule, path: fake })) }));
  const found = await binary('node-problem-detector');
  if ('missing' in found) throw new Error(found.missing);
  dependents.start('node-problem-detector', found.program, [
    `--config.custom-plugin-monitor=${plugin}`,
    `--apiserver-override=${server.url}?inClusterConfig=false&auth=${kubeconfig(server, dependents.folder)}`,
    '--hostname-override=npd-node', '--port=0', '--prometheus-port=0', '--logtostderr',
  ]);

  const open = await conditionThat(server, ({ status }) => status === 'True');
  t.match(open, { reason: TYPE, message: /^open PacketPasses: / }, 'no rule keeps a pod from IMDS');
  t.ok(String(open.message).length <= 80, 'what it says is not cut off');

  t.equal(spawnSync(program, ['apply'], { encoding: 'utf8' }).status, 0);
  const blocked = await conditionThat(server, ({ status }) => status === 'False');
  t.match(blocked, { reason: 'PodsAreKeptFromIMDS' });

  writeFileSync(fake, '#!/bin/sh\necho "a bug"; exit 70\n');
  t.ok(await conditionThat(server, ({ status }) => status === 'Unknown'), 'what cannot tell is Unknown');
  t.same(Object.keys(await conditionsOf(server, 'npd-node')).sort(), [TYPE, 'Ready'], "it keeps no other, and leaves the kubelet's");
});

t.test('from a container it runs the host\'s own, and a failure on the way there is not "open"', async t => {
  const wrapper = join(folder, 'imds-guard-on-host.sh');
  // Process 1 here is a shell of ours: a host of its own, with /opt as we like it.
  const onHost = (answer: string, before = ''): number | null =>
    spawnSync('unshare', ['--pid', '--fork', '--kill-child', '--mount', '--mount-proc', 'sh', '-c', `mount -t tmpfs tmpfs /opt; ${answer}; ${before} sh ${wrapper} check --output npd; exit $?`], { encoding: 'utf8' }).status;
  const says = (exit: number): string => `mkdir /opt/imds-guard; printf '#!/bin/sh\\necho "$@"; exit ${exit}\\n' >/opt/imds-guard/imds-guard; chmod +x /opt/imds-guard/imds-guard`;
  for (const exit of [0, 1, 2, 70]) t.equal(onHost(says(exit)), exit);
  t.notOk([0, 1].includes(onHost('true') ?? 0), 'no imds-guard on the host');
  t.notOk([0, 1].includes(onHost(says(0), 'setpriv --bounding-set -sys_admin --inh-caps -sys_admin') ?? 0), 'not permitted to go there');
});

function kubeconfig(server: ApiServer, place: string): string {
  const file = join(place, 'kubeconfig');
  const config = {
    apiVersion: 'v1', kind: 'Config', 'current-context': 'c',
    clusters: [{ name: 'c', cluster: { server: server.url, 'certificate-authority': server.caFile } }],
    users: [{ name: 'u', user: { token: server.adminToken } }],
    contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

const askAgainMs = 200;
async function conditionThat(server: ApiServer, is: (condition: NodeCondition) => boolean, withinMs = 30_000): Promise<NodeCondition> {
  const deadline = performance.now() + withinMs;
  let last: NodeCondition | undefined;
  while (performance.now() < deadline) {
    last = (await conditionsOf(server, 'npd-node'))[TYPE];
    if (last !== undefined && is(last)) return last;
    await new Promise(later => setTimeout(later, askAgainMs));
  }
  throw new Error(`never so; the last: ${JSON.stringify(last)}`);
}
