// `imds-guard probe` on the lab's node, and the node as it is seen by the program: which namespaces are there.
import type { NetworkProbe, ProbeReport } from '../../agent/core/probe/report.ts';
import { type Before, guard, type Said } from '../kernel/guard.ts';
import type { Lab, Pod } from '../lab/lab.ts';

type Node = Pick<Lab, 'exec' | 'node' | 'request'>;

/** /run/netns with these and nothing else; `more` is a shell script that is run in the new directory. */
export const amongPods = (pods: readonly Pod[], more = ''): Before => [
  'unshare', '-m', 'sh', '-ec',
  `mkdir -p /run/seen; mount -t tmpfs tmpfs /run/seen; cd /run/seen
for pod in ${pods.map(({ namespace }) => namespace).join(' ')}; do : > $pod; mount --bind /run/netns/$pod $pod; done
${more}
cd /; mount --move /run/seen /run/netns; exec "$@"`,
  'sh',
];

/** The node as a whole machine, with a process of a pod's cgroup in each of these namespaces, and none of them has a name. */
export const asMachine = (pods: readonly Pod[], uid: string): Before => [
  'unshare', '--mount', '--pid', '--fork', 'sh', '-ec',
  `mount -t proc proc /proc
echo 0::/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-${'4be2f0d1'.repeat(8)}.scope > /run/cgroup
for pod in ${pods.map(({ namespace }) => namespace).join(' ')}; do
  nsenter --net=/run/netns/$pod sleep 600 &
  until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/1/ns/net)" ]; do :; done
  mount --bind /run/cgroup /proc/$!/cgroup
done
mount -t tmpfs tmpfs /run/netns
status=0; "$@" || status=$?; exit $status`,
  'sh',
];

/** Probes every pod. */
export async function probe(lab: Node, before: Before = []): Promise<Said<ProbeReport>> {
  const ran = await guard(lab, ['probe', '--all', '--output', 'json'], before);
  try {
    return { ...ran, value: JSON.parse(ran.stdout) as ProbeReport };
  } catch (cause) {
    throw new Error(`imds-guard probe: exit ${ran.exitCode}, no JSON: ${ran.stdout}${ran.stderr}`, { cause });
  }
}

/** What was found in a pod's network; rejects nothing: a pod that is missing has no class. */
export const found = (report: ProbeReport, pod: Pod, family: NetworkProbe['family'] = 'ipv4'): NetworkProbe | undefined =>
  report.networks.find((network) => network.networkNamespace === `/run/netns/${pod.namespace}` && network.family === family);

/** `open (open, hop-limit)`: the class, and those of both versions. */
export const classesOf = (probed: NetworkProbe | undefined): string => (probed === undefined ? 'not probed' : `${probed.class} (${probed.v1.class}, ${probed.v2.class})`);
