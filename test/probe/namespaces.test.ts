// Which namespaces are pods', and what is left of those that are gone, cannot be entered, or go while they are probed.
import t from 'tap';
import { guard, must, nft } from '../kernel/guard.ts';
import { type Lab, type Pod, makeLab } from '../lab/lab.ts';
import { amongPods, asMachine, classesOf, found, probe } from './world.ts';

t.setTimeout(120_000);

const dropsAll = 'table inet drops {\n chain f {\n type filter hook forward priority filter\n tcp dport 80 drop\n }\n}\n';
const STALE = 1000;
/** Root without the right to read what it may not. */
const bound = ['setpriv', '--bounding-set=-dac_override,-dac_read_search'];

t.test('a node without pods: unknown, it says so, and sends nothing', async (t) => {
  const lab = await makeLab({ pods: {}, ipv6: true });
  t.teardown(lab.remove);
  await nft(lab, 'table inet sent {\n chain o {\n type filter hook output priority filter\n ip daddr 169.254.169.254 counter\n ip6 daddr fd00:ec2::254 counter\n }\n}\n');
  const { exitCode, value } = await probe(lab);
  t.match({ exitCode, value }, { exitCode: 2, value: { answer: 'unknown', reason: 'NoPodToProbe', found: 0, networks: [], control: [] } });
  t.match(await guard(lab, ['probe']), { exitCode: 2, stdout: /no network of a pod was found/ });
  t.same([...(await must(lab, 'nft', 'list', 'table', 'inet', 'sent')).matchAll(/counter packets (\d+)/g)].map(([, packets]) => packets), ['0', '0']);
  t.same(await lab.seen(), []);
});

t.test('what is left of namespaces is skipped, and keeps nobody from an answer', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  await nft(lab, dropsAll);
  await t.test(`${STALE} files that nothing is mounted on`, async (t) => {
    const { exitCode, value } = await probe(lab, amongPods([lab.pods.web], `seq -f cni-%g ${STALE} | xargs touch`));
    t.match({ exitCode, value }, { exitCode: 0, value: { answer: 'blocked', found: 1 } });
    t.ok(value.skipped.length > 0, 'it says so');
    for (const { because } of value.skipped) t.not(because, '');
  });
  await t.test('files that are something else: none of them holds it up', async (t) => {
    const others = [
      'mkfifo pipe',
      'mkdir directory',
      'ln -s /nowhere dangling',
      'ln -s circle circle',
      ': > other-kind; mount --bind /proc/self/ns/uts other-kind',
      ': > no-namespace; mount --bind /etc/hostname no-namespace',
      'mkdir disk; mount -t tmpfs tmpfs disk',
      ': > hung; mount --bind /dev/zero hung',
    ];
    const { exitCode, value } = await probe(lab, amongPods([lab.pods.web], others.join('\n')));
    t.match({ exitCode, value }, { exitCode: 0, value: { answer: 'blocked', found: 1 } });
    t.same(classesOf(found(value, lab.pods.web)), 'dropped (dropped, dropped)');
    const told = new Map(value.skipped.map(({ networkNamespace, because }) => [networkNamespace.replace('/run/netns/', ''), because]));
    for (const name of ['pipe', 'directory', 'dangling', 'circle', 'other-kind', 'no-namespace', 'disk', 'hung']) t.ok(told.get(name), `${name} is skipped, because: ${told.get(name)}`);
  });
  await t.test(`one that may not be read, among ${STALE} others`, async (t) => {
    const unread = 'mkdir closed; : > closed/web; chmod 000 closed; ln -s closed/web unread';
    const { value } = await probe(lab, [...amongPods([lab.pods.web], `seq -f cni-%g ${STALE} | xargs touch\n${unread}`), ...bound]);
    t.match(value.skipped.find(({ networkNamespace }) => networkNamespace === '/run/netns/unread'), { because: /EACCES|ermission/ });
    t.same(classesOf(found(value, lab.pods.web)), 'dropped (dropped, dropped)');
  });
});

t.test('without a right, what cannot be known is not said to be blocked', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  await nft(lab, dropsAll);
  const blind = await probe(lab, ['setpriv', '--bounding-set=-net_raw']);
  t.match(blind, { exitCode: 2, value: { answer: 'unknown' } }, 'nobody saw its packets');
  t.same(classesOf(found(blind.value, lab.pods.web)), 'inconclusive (inconclusive, inconclusive)');
  for (const before of [['setpriv', '--bounding-set=-sys_admin'], ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'], ['unshare', '--user', '--map-root-user']]) {
    const refused = await guard(lab, ['probe', '--output', 'json'], before);
    t.notMatch(refused, { exitCode: 0 }, before.join(' '));
    t.notMatch(refused.stdout, '"blocked"');
  }
  await must(lab, 'nft', 'delete', 'table', 'inet', 'drops');
  t.match(await probe(lab, ['setpriv', '--bounding-set=-net_raw']), { exitCode: 1, value: { answer: 'open' } }, 'who got something got something');
});

t.test('a pod that goes while it is probed takes nothing with it', async (t) => {
  const lab = await makeLab({ pods: { goes: 'eni', stays: 'eni', dropped: 'eni' } });
  t.teardown(lab.remove);
  await lab.setService({ token: 'hang', metadata: 'hang' }, lab.pods.goes);
  await nft(lab, `table inet drops {\n chain f {\n type filter hook forward priority filter\n iifname "${lab.pods.dropped.hostInterface}" tcp dport 80 drop\n }\n}\n`);
  const running = probe(lab);
  await arrivedFrom(lab, lab.pods.goes);
  await must(lab, 'sh', '-ec', `ip link del ${lab.pods.goes.hostInterface}; ip netns del ${lab.pods.goes.namespace}`);
  const { exitCode, value } = await running;
  t.match({ exitCode, value }, { exitCode: 1, value: { answer: 'open', found: 3 } });
  t.same(classesOf(found(value, lab.pods.goes)), 'inconclusive (inconclusive, inconclusive)');
  t.same(classesOf(found(value, lab.pods.stays)), 'open (open, open)');
  t.same(classesOf(found(value, lab.pods.dropped)), 'dropped (dropped, dropped)');
});

t.test('namespaces that come and go all the while', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  await nft(lab, dropsAll);
  const churn = lab.start(lab.node, 'sh', ['-c', 'while :; do for n in 1 2 3 4 5 6 7 8; do ip netns add churn$n; ip link add churn$n type veth peer name eth0 netns churn$n; done; for n in 1 2 3 4 5 6 7 8; do ip netns del churn$n; done; done']);
  for (let time = 1; time <= 5; time += 1) {
    const { value } = await probe(lab);
    t.same([classesOf(found(value, lab.pods.web)), classesOf(found(value, lab.pods.six, 'ipv6'))], ['dropped (dropped, dropped)', 'dropped (dropped, dropped)'], `time ${time}`);
    t.not(value.answer, 'open');
  }
  churn.kill('SIGTERM');
  await churn;
  await lab.exec(lab.node, 'sh', ['-c', 'for n in 1 2 3 4 5 6 7 8; do ip netns del churn$n; done']);
});

t.test('a pod that has no name in /run/netns is found by its processes, and so is a network inside of it', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', inner: 'loose' } });
  t.teardown(lab.remove);
  const { web, inner } = lab.pods;
  await nest(lab, web, inner);
  const uid = '0f5c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b';
  const machine = asMachine([web, inner], uid);
  for (const [hops, expected] of [[1, ['hop-limit', 'hop-limit']], [2, ['open', 'hop-limit']], [3, ['open', 'open']]] as const) {
    await lab.setHopLimit(hops);
    const { value } = await probe(lab, machine);
    t.equal(value.found, 2);
    const probed = value.networks.filter(({ family }) => family === 'ipv4').sort((a, b) => (a.hops ?? 0) - (b.hops ?? 0));
    t.same(probed.map(({ v2 }) => v2.class), expected, `hop limit ${hops}`);
    t.same(probed.map((network) => network.hops), [1, 2], 'how far away they are');
    for (const { networkNamespace, pods, interfaces } of probed) {
      t.match(networkNamespace, /^\/proc\/\d+\/ns\/net$/);
      t.match(pods, [{ uid }], 'by the cgroup of its processes');
      t.same(interfaces, [web.hostInterface], 'where its packets came out');
    }
  }
  await nft(lab, dropsAll);
  const { value } = await probe(lab, machine);
  t.same(value.networks.filter(({ family }) => family === 'ipv4').map(({ class: kind }) => kind), ['dropped', 'dropped']);
});

/** Resolves when IMDS has had a request of this pod. */
async function arrivedFrom(lab: Pick<Lab, 'seen'>, pod: Pod): Promise<void> {
  while (!(await lab.seen()).some(({ from }) => from === pod.address4));
}

/** A network inside a pod's, behind a masquerade: docker in docker. */
async function nest(lab: Lab, outer: Pod, inner: Pod): Promise<void> {
  const made = await lab.exec(outer.namespace, 'sh', ['-ec', `
sysctl -w net.ipv4.ip_forward=1
ip link add inner0 type veth peer name eth0 netns ${inner.namespace}
ip addr add 172.17.0.1/24 dev inner0
ip link set inner0 up
ip -n ${inner.namespace} link set eth0 up
ip -n ${inner.namespace} addr add ${inner.address4}/24 dev eth0
ip -n ${inner.namespace} route add default via 172.17.0.1
nft -f - <<END
table ip docker {
 chain p {
  type nat hook postrouting priority srcnat
  ip saddr 172.17.0.0/24 oifname "eth0" masquerade
 }
}
END`]);
  if (made.exitCode !== 0) throw new Error(made.stderr);
}
