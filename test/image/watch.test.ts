// The image as the DaemonSet runs it, on a node of the lab: what it does for the pods there.
import t from 'tap';
import { makeLab } from '../lab/lab.ts';
import { dies, must, passes } from '../kernel/guard.ts';
import { containersOn } from './container.ts';
import { builtImage } from './image.ts';
import { type ManifestPod, podOf } from './manifest.ts';
import { noProfile } from './seccomp.ts';

const image = builtImage();
const skip = 'missing' in image ? image.missing : noProfile;

t.test('it protects pods, repairs, proves it with packets, and leaves the rules when it stops', { skip, timeout: 120_000 }, async t => {
  if ('missing' in image) return;
  const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(() => lab.remove());
  const node = containersOn(lab, image);
  t.teardown(() => node.remove());
  t.ok(await passes(lab, lab.pods.web), 'nothing keeps a pod from IMDS before');

  const daemon = node.watch(podOf('imds-guard.yaml'));
  t.teardown(() => daemon.stop());
  await daemon.ready();
  for (const pod of Object.values(lab.pods)) t.ok(await dies(lab, pod), `${pod.name} is kept from it`);
  t.ok(await passes(lab, 'node'), 'the node is not');
  t.match(await daemon.statusThat(({ observed }) => observed.state === 'tried'), { answer: 'blocked', basis: ['rules', 'packets'], observed: { found: 3 }, guard: { state: /^owned|^plain/ }, audit: {} });

  await must(lab, 'iptables-nft', '-F');
  const { lost } = await daemon.until(({ msg }) => msg === 'restored');
  t.match(lost, [/FORWARD/]);
  t.match(await must(lab, 'iptables-nft', '-S', 'FORWARD'), /-A FORWARD -d 169\.254\.169\.254\/32 -i eni\+ -j DROP/);
  t.ok(await dies(lab, lab.pods.web));

  await daemon.stop();
  t.match(await daemon.ended, { exitCode: 0, stderr: '' });
  for (const pod of Object.values(lab.pods)) t.ok(await dies(lab, pod), `${pod.name} is kept from it still`);
});

t.test('with probe: false it does without what only packets need', { skip, timeout: 120_000 }, async t => {
  if ('missing' in image) return;
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(() => lab.remove());
  const node = containersOn(lab, image);
  t.teardown(() => node.remove());
  const pod = podOf('imds-guard.yaml');
  const [container] = pod.containers;
  if (container === undefined) throw new Error('a pod without a container');
  // What the chart asks for then: test/chart.
  const security = { ...container.securityContext, capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] } };
  const less: ManifestPod = { ...pod, containers: [{ ...container, securityContext: security }] };
  const daemon = node.watch(less, { env: { IMDS_GUARD_PROBE: 'false' } });
  t.teardown(() => daemon.stop());
  await daemon.ready();
  t.ok(await dies(lab, lab.pods.web));
  t.match(await daemon.status(), { answer: 'blocked', basis: ['rules'] });
});

t.test('the removal waits for the agent to be gone, and then nothing of ours is left', { skip, timeout: 120_000 }, async t => {
  if ('missing' in image) return;
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(() => lab.remove());
  const node = containersOn(lab, image);
  t.teardown(() => node.remove());
  const daemon = node.watch(podOf('imds-guard.yaml'));
  t.teardown(() => daemon.stop());
  await daemon.ready();
  const removal = podOf('uninstall.yaml');
  t.match(await node.run(removal), { exitCode: 2, stdout: /watch/ }, 'while it runs');
  t.ok(await dies(lab, lab.pods.web));
  await daemon.stop();
  t.match(await node.run(removal), { exitCode: 0, stderr: '' });
  t.ok(await passes(lab, lab.pods.web), 'as it was before');
  t.notMatch(await must(lab, 'nft', 'list', 'ruleset'), /imds-guard|169\.254\.169\.254/i);

  const { initContainers: _, ...waiting } = removal;
  const waits = await node.run({ ...waiting, containers: waiting.containers.map(one => ({ ...one, command: ['sleep', '0.1'] })) });
  t.match(waits, { exitCode: 0, stderr: '' }, 'what waits to be deleted starts, as nobody, without any right');
});
