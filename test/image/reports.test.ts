// The image as the DaemonSet runs it, with the rights of the checked-in manifest and the token that a kubelet would mount: its node's
// condition on a real API server.
import t from 'tap';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startApiServer } from '../cluster/api-server.ts';
import { missing } from '../cluster/binaries.ts';
import { startFaultProxy } from '../cluster/fault-proxy.ts';
import { agentRights } from '../cluster/manifests.ts';
import { type NodeCondition, conditionsOf, createNode, createPod } from '../cluster/node.ts';
import { granted } from '../cluster/request.ts';
import { makeLab } from '../lab/lab.ts';
import { containersOn } from './container.ts';
import { builtImage } from './image.ts';
import { podOf } from './manifest.ts';
import { noProfile } from './seccomp.ts';

const image = builtImage();
const skip = 'missing' in image ? image.missing : noProfile || (await missing('etcd', 'kube-apiserver'));

t.test('it reports to the API server, and says so when it stops', { skip, timeout: 180_000 }, async t => {
  if ('missing' in image) return;
  const server = await startApiServer();
  t.teardown(() => server.stop());
  for (const { path, body } of agentRights()) await granted(server.admin('POST', path, body));
  await createNode(server, 'lab-node');
  await createPod(server, { namespace: 'kube-system', name: 'agent', node: 'lab-node', serviceAccount: 'imds-guard' });

  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(() => lab.remove());
  const proxy = await startFaultProxy(server, { namespace: lab.node });
  t.teardown(() => proxy.stop());
  const serviceAccount = mkdtempSync(join(tmpdir(), 'imds-guard-account-'));
  t.teardown(() => rmSync(serviceAccount, { recursive: true }));
  copyFileSync(proxy.caFile, join(serviceAccount, 'ca.crt'));
  writeFileSync(join(serviceAccount, 'token'), await server.tokenFor({ namespace: 'kube-system', serviceAccount: 'imds-guard', pod: 'agent' }));

  const node = containersOn(lab, image);
  t.teardown(() => node.remove());
  const daemon = node.watch(podOf('imds-guard.yaml'), { serviceAccount, env: { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(proxy.port) } });
  t.teardown(() => daemon.stop());
  const conditionThat = async (is: (condition: NodeCondition) => boolean): Promise<NodeCondition> => {
    let last: NodeCondition | undefined;
    for (const deadline = performance.now() + 90_000; performance.now() < deadline; await new Promise(later => setTimeout(later, 200))) {
      last = (await conditionsOf(server, 'lab-node'))['PodIMDSBlocked'];
      if (last !== undefined && is(last)) return last;
    }
    throw new Error(`the condition was never so; the last: ${JSON.stringify(last)}; the daemon said ${JSON.stringify(daemon.events.slice(-5))}`);
  };
  t.match(await conditionThat(({ status }) => status === 'True'), { reason: 'EveryPacketDropped' });
  await daemon.stop();
  t.match(await conditionThat(({ status }) => status === 'Unknown'), { reason: 'AgentStopped' });
});
