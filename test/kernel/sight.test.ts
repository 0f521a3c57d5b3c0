// An agent in a container that was not given the host's processes or /run/netns.
import t from 'tap';
import { makeLab } from '../lab/lab.ts';
import { apply, check } from './guard.ts';
import { among } from './surroundings.ts';

t.setTimeout(60_000);

t.test('who cannot see into the namespaces of pods says that it did not look there', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  await apply(lab);
  const unseen = /namespaces are not in sight/;
  const seeing = await check(lab);
  t.equal(seeing.value.assumed.some((text) => unseen.test(text)), false);
  const blind = await check(lab, [], among('mount -t tmpfs none /run/netns'));
  t.match(blind, { exitCode: 0, value: { answer: 'blocked' } });
  t.ok(blind.value.assumed.some((text) => unseen.test(text)), 'it is in `assumed`');
});

t.test('namespaces are found by their processes: veths of the node are no doubt, a macvlan is', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6', macvlan: 'macvlan' } });
  t.teardown(lab.remove);
  await apply(lab);
  // A node whose first process is in its own network namespace, as on a real one, with a process in each pod named.
  const nodeWith = (...pods: readonly string[]): readonly string[] => [
    'unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-ec',
    `for pod in ${pods.join(' ')}; do
      nsenter --net=/run/netns/$pod sleep 60 &
      until test "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)"; do :; done
    done
    mount -t tmpfs none /run/netns; "$@"`, 'sh',
  ];
  const { ordinary, six, macvlan } = lab.pods;
  const plain = await check(lab, [], nodeWith(ordinary.namespace, six.namespace));
  t.match(plain, { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
  t.equal(plain.value.assumed.some((text) => /not in sight/.test(text)), false);
  const bypassed = await check(lab, [], nodeWith(ordinary.namespace, macvlan.namespace));
  t.match(bypassed, { exitCode: 2, value: { reason: 'MayBypassNetfilter' } });
  t.match(JSON.stringify(bypassed.value.targets[0]), /process \d+ is a macvlan interface/);
});
