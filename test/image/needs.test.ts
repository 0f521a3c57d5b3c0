// Everything that the DaemonSet asks for beyond what any container has, left out, one at a time: what fails then, by name. The table
// in daemonset/README.md says the same in words.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeLab, type Lab } from '../lab/lab.ts';
import { must } from '../kernel/guard.ts';
import { type Containers, containersOn } from './container.ts';
import { builtImage } from './image.ts';
import { type ManifestPod, partsOf, podOf, without } from './manifest.ts';
import { noProfile } from './seccomp.ts';

const image = builtImage();
const skip = 'missing' in image ? image.missing : noProfile;
const page = readFileSync(fileURLToPath(new URL('../../daemonset/README.md', import.meta.url)), 'utf8');

type TheLab = Lab<'web' | 'branch'>;
interface Need {
  /** Does something on the node, in a container of this pod, and gives what it was told. */
  readonly tell: (node: Containers, pod: ManifestPod, lab: TheLab) => Promise<string>;
  readonly whole: RegExp;
  /** The failure by its name, where the part is missing. */
  readonly missing: RegExp;
}

const check: Need['tell'] = async (node, pod) => said(await node.run(pod, ['check']));
const said = ({ stdout, stderr }: { readonly stdout: string; readonly stderr: string }): string => stdout + stderr;

/** A pod of another runtime: its namespace is nowhere under /run/netns, and its process is another user's. */
const onlyAsProcess = (lab: TheLab): string[] => [
  'unshare', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-ec',
  `nsenter --net=/run/netns/${lab.pods.web.namespace} setpriv --reuid=65535 --regid=65535 --clear-groups --inh-caps=-all --bounding-set=-all sleep 60 &
until test "$(readlink /proc/$!/exe)" = "$(realpath "$(command -v sleep)")"; do sleep 0.05; done
umount /run/netns/${lab.pods.web.namespace}; exec "$@"`,
  'sh',
];

/** One that starts after the container: its namespace is mounted on the node, and not in what the container was given. */
let latecomers = 0;
async function withLatecomer(node: Containers, pod: ManifestPod, lab: TheLab): Promise<string> {
  latecomers += 1;
  const [name, link] = [`late${process.pid}-${latecomers}`, `eni0late${latecomers}`];
  const ran = node.run(pod, ['-c', `until test -e /run/netns/${name}.ready; do sleep 0.1; done; exec imds-guard probe --all`], { entrypoint: ['/bin/sh'] });
  await new Promise(started => setTimeout(started, 1500));
  try {
    shell(`ip netns add ${name}; ip -n ${lab.node} link add ${link} type veth peer name eth0 netns ${name}; ip -n ${lab.node} link set ${link} up; ip -n ${name} link set eth0 up; : >/run/netns/${name}.ready`);
    return said(await ran);
  } finally {
    shell(`ip netns del ${name}; rm -f /run/netns/${name}.ready`);
  }
}

function shell(script: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

/** What is known of somebody who deletes rules. */
async function culprit(node: Containers, pod: ManifestPod, lab: TheLab): Promise<string> {
  const daemon = node.watch(pod);
  try {
    await daemon.ready();
    await must(lab, 'iptables-nft', '-F');
    return JSON.stringify((await daemon.until(({ msg }) => msg === 'overwritten'))['culprit']);
  } finally {
    await daemon.stop();
  }
}

const needs: Readonly<Record<string, Need>> = {
  'capability NET_ADMIN': { tell: check, whole: /^blocked  eni\+ ipv4$/m, missing: /^unknown  eni\+ ipv4  NotPermitted\n +iptables-nft-save: not permitted\. Run as root with CAP_NET_ADMIN/m },
  'capability NET_RAW': { tell: check, whole: /^packets .* 2 dropped/m, missing: /^packets .* 2 inconclusive/m },
  'capability SYS_ADMIN': { tell: check, whole: /^packets .* 2 dropped/m, missing: /^packets +not tried: no network of a pod could be entered: .* EPERM/m },
  'capability SYS_PTRACE': {
    tell: async (node, pod, lab) => said(await node.run(pod, ['probe', '--all'], { before: onlyAsProcess(lab) })),
    whole: /^dropped +\S+, eni\S+, ipv4$/m,
    missing: /^(?!.*^dropped +\S+, eni).*^dropped +\S+, vlan/ms,
  },
  hostPID: { tell: culprit, whole: /"commandLine":"iptables-nft -F"/, missing: /^\{"name":"iptables-nft","pid":\d+\}$/ },
  hostNetwork: { tell: check, whole: /^blocked: /m, missing: /^open     eni\+ ipv4  PacketPasses/m },
  'mount /run/xtables.lock': {
    tell: async (node, pod) => said(await node.run(pod, ['apply', '--backend', 'legacy'])),
    whole: /^ran iptables-legacy-restore/m,
    missing: /^failed: iptables-legacy-restore.*xtables\.lock/m,
  },
  'mount /run/netns': { tell: check, whole: /^packets .* 2 dropped/m, missing: /^packets +not tried: no network of a pod was found on this node/m },
  'propagation /run/netns': { tell: withLatecomer, whole: /^no-route +\/run\/netns\/late\S+, eni0late/m, missing: /\/run\/netns\/late\S+: no network namespace any more: nothing is mounted there/ },
  'mount /var/log/pods': { tell: async (node, pod) => said(await node.run(pod, ['probe'])), whole: /^dropped +default\/web, /m, missing: /^dropped +\/run\/netns\/\S+, /m },
  'mount /etc/cni/net.d': { tell: check, whole: /^blocked  foo\+ ipv4$/m, missing: /^(?!.*foo\+).*^blocked  eni\+ ipv4$/ms },
};

t.test('each capability, mount and namespace of the host is needed, and what fails without it has a name', { skip, timeout: 300_000 }, async t => {
  if ('missing' in image) return;
  const pod = podOf('imds-guard.yaml');
  t.same([...partsOf(pod)].sort(), Object.keys(needs).sort(), 'this table has what the manifest asks for, and nothing else');
  const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan' } });
  t.teardown(() => lab.remove());
  const node = containersOn(lab, image);
  t.teardown(() => node.remove());
  mkdirSync(join(node.onNode('/var/log/pods'), 'default_web_0f5c7a55-0000-4000-8000-000000000001'), { recursive: true });
  mkdirSync(node.onNode('/etc/cni/net.d'), { recursive: true });
  writeFileSync(join(node.onNode('/etc/cni/net.d'), '10-aws.conflist'), '{"plugins":[{"type":"aws-cni","vethPrefix":"foo"}]}\n');
  t.match(await node.run(pod, ['apply']), { exitCode: 0, stderr: '' }, 'the node is as the agent leaves it');

  for (const part of partsOf(pod)) {
    await t.test(part, async t => {
      const need = needs[part];
      if (need === undefined) return t.fail(`nothing here needs ${part}`);
      const missing = await need.tell(node, without(pod, part), lab);
      t.match(missing, need.missing, 'without it');
      t.match(await need.tell(node, pod, lab), need.whole, 'with it');
      const [, kind, name = part] = /^(\w+) (.+)$/.exec(part) ?? [];
      const row = new RegExp(`^\\| \`${name.replaceAll('.', '\\.')}\`${kind === 'propagation' ? ', HostToContainer' : '(, read-only)?'} \\|`, 'm');
      t.match(page, row, 'daemonset/README.md says why');
    });
  }
});
