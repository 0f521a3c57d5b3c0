// A pod that has its own network in its hands, and does what it can to make the node look blocked: it hinders the connections of a
// probe, and lets all others go.
import t from 'tap';
import { PROBE_PORTS } from '../../agent/core/probe/pod-network.ts';
import type { JoinedReport } from '../../agent/core/probe/joined-report.ts';
import { apply, guard, must } from '../kernel/guard.ts';
import { type Lab, type Pod, makeLab } from '../lab/lab.ts';
import { amongPods, asMachine, classesOf, found, probe } from './world.ts';

t.setTimeout(180_000);

const ports = `${PROBE_PORTS.first}-${PROBE_PORTS.last}`;
const rewrite = (words: string): string => `table inet trick {\n chain p {\n type filter hook postrouting priority mangle\n tcp sport ${ports} ${words}\n }\n}\n`;
const translate = (words: string): string => `table ip trick {\n chain p {\n type nat hook postrouting priority srcnat\n tcp sport ${ports} ${words}\n }\n}\n`;

async function inPod(lab: Lab, { namespace }: Pod, script: string, stdin = ''): Promise<void> {
  const { exitCode, stderr } = await lab.exec(namespace, 'sh', ['-ec', script], { stdin });
  if (exitCode !== 0) throw new Error(stderr);
}

/** Sends SYNs of its own, from every port of a probe, that die of themselves: it is told which is to be the probe's. */
const decoys = (words: string): string => `
import socket, struct, time
s = socket.socket(${words.includes('AF_INET6') ? 'socket.AF_INET6' : 'socket.AF_INET'}, socket.SOCK_RAW, ${words.includes('AF_INET6') ? 'socket.IPPROTO_TCP' : 'socket.IPPROTO_RAW'})
def tcp(port): return struct.pack('>HHIIBBHHH', port, 80, port * 77, 0, 0x50, 2, 1000, 0, 0)
while True:
    for port in range(${PROBE_PORTS.first}, ${PROBE_PORTS.last + 1}):
        try: ${words}
        except OSError: pass
    time.sleep(0.05)
`;

t.test('packets that die of themselves are none that the node dropped', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni', branch: 'vlan' } });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  const tricks: Readonly<Record<string, string>> = {
    'a TTL of 1': rewrite('ip ttl set 1'),
    'the source of another machine': translate('snat to 198.51.100.7'),
    'the source of the node': translate('snat to 10.0.0.10'),
    'a source that no node takes': translate('snat to 127.0.0.1'),
    'a source that is multicast': rewrite('ip saddr set 224.0.0.9'),
    'the source of a neighbour': translate('snat to 10.0.1.77'),
    'a fragment': rewrite('@nh,48,16 set 0x2000'),
    'flags that nobody sends': rewrite('@th,104,8 set 0x07'),
  };
  for (const [name, script] of Object.entries(tricks)) {
    for (const pod of pods) await inPod(lab, pod, 'nft -f -', script);
    const { exitCode, value } = await probe(lab);
    t.match({ exitCode, answer: value.answer }, { exitCode: 2, answer: 'unknown' }, name);
    for (const pod of pods) t.equal(found(value, pod)?.class, 'inconclusive', `${name}: ${pod.kind}`);
    for (const pod of pods) await inPod(lab, pod, 'nft flush ruleset');
  }
  t.equal((await probe(lab)).value.answer, 'open', 'without tricks');
});

t.test('who drops the packets of a probe and sends decoys in their place', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni' }, ipv6: true });
  t.teardown(lab.remove);
  const { web } = lab.pods;
  await must(lab, 'sysctl', '-qw', 'net.ipv6.conf.all.forwarding=0');
  await inPod(lab, web!, 'ip -6 addr add 2001:db8:0:9::1/128 dev eth0 nodad; ip -6 neigh add fe80::1 lladdr 02:00:00:00:03:01 dev eth0; ip -6 route add fd00:ec2::254 via fe80::1 dev eth0; nft -f -', rewrite('ip id != 4242 drop'));
  const head = "struct.pack('>BBHHHBBH4s4s', 0x45, 0, 0, 4242, 0, TTL, 6, 0, bytes(4), socket.inet_aton('169.254.169.254'))";
  for (const [name, words] of [
    ['with a TTL of 1', `s.sendto(${head.replace('TTL', '1')} + tcp(port), ('169.254.169.254', 0))`],
    ['of the other family', "s.sendto(tcp(port), ('fd00:ec2::254', 0)) # AF_INET6"],
  ] as const) {
    const sending = lab.start(web!.namespace, 'python3', ['-c', decoys(words)]);
    const { exitCode, value } = await probe(lab);
    sending.kill('SIGKILL');
    await sending;
    t.equal(classesOf(found(value, web!)), 'inconclusive (inconclusive, inconclusive)', name);
    t.not(exitCode, 0, name);
  }
});

t.test('a pod that has no route for our ports alone has one', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni', dropped: 'eni' } });
  t.teardown(lab.remove);
  const { web, dropped } = lab.pods;
  await must(lab, 'nft', `add table inet d; add chain inet d f { type filter hook forward priority 0; }; add rule inet d f iifname "${dropped!.hostInterface}" tcp dport 80 drop`);
  await inPod(lab, web!, `ip rule add ipproto tcp sport ${ports} unreachable pref 5`);
  t.match(await lab.request(web!), { fate: 'reached' });
  const { exitCode, value } = await probe(lab);
  t.match({ exitCode, answer: value.answer }, { exitCode: 2, answer: 'unknown' });
  await t.test('nor is one without an address known to send nothing (gVisor)', async (t) => {
    await inPod(lab, web!, `ip rule del pref 5; ip addr flush dev eth0`);
    t.match(await probe(lab), { exitCode: 2, value: { answer: 'unknown' } });
  });
});

t.test('a second way out, that packets of a probe do not take', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni', other: 'eni' } });
  t.teardown(lab.remove);
  const { web } = lab.pods;
  await apply(lab);
  const check = async (): Promise<JoinedReport> => JSON.parse((await guard(lab, ['check', '--output', 'json'], amongPods(Object.values(lab.pods)))).stdout) as JoinedReport;
  t.match(await check(), { answer: 'blocked', basis: ['rules', 'packets'] });
  await must(lab, 'ip', 'link', 'add', 'link', 'ens5', 'name', 'net1', 'netns', web!.namespace, 'type', 'macvlan', 'mode', 'bridge');
  await inPod(lab, web!, `ip link set net1 up; ip addr add 10.0.0.203/24 dev net1; ip route add 169.254.169.254 dev net1
ip rule add ipproto tcp sport ${ports} lookup 77 pref 5; ip route add default via 169.254.1.1 dev eth0 table 77`);
  t.match(await lab.request(web!), { fate: 'reached' }, 'by a card of its own');
  t.match(await check(), { answer: 'unknown', reason: 'MayBypassNetfilter', message: /net1/ });
  t.match(await probe(lab), { exitCode: 2, value: { answer: 'unknown' } });
});

t.test('a network inside of a pod, whose IMDS is the pod itself: nobody got out', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni', inner: 'loose' } });
  t.teardown(lab.remove);
  const [web, inner] = [lab.pods['web']!, lab.pods['inner']!];
  await apply(lab);
  await inPod(lab, web, `ip link add inner0 type veth peer name eth0 netns ${inner.namespace}; ip addr add 172.17.0.1/24 dev inner0; ip link set inner0 up
ip -n ${inner.namespace} link set eth0 up; ip -n ${inner.namespace} addr add ${inner.address4}/24 dev eth0; ip -n ${inner.namespace} route add default via 172.17.0.1
nft 'add table ip fake; add chain ip fake p { type nat hook prerouting priority dstnat; }; add rule ip fake p iifname inner0 tcp dport 80 redirect to :8080'`);
  await lab.answerAt(web, { address: '172.17.0.1', port: 8080 });
  t.match(await lab.request(inner), { fate: 'reached' });
  const machine = asMachine([web, inner], '0f5c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b');
  const { value } = await probe(lab, machine);
  t.same(value.networks.filter(({ family }) => family === 'ipv4').map(({ class: kind }) => kind).sort(), ['dropped', 'proxied']);
  t.match(await guard(lab, ['check'], machine), { exitCode: 0 });
});

t.test('rules that let some packets pass do so beside a program that may carry them past all', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni', other: 'eni' } });
  t.teardown(lab.remove);
  const [web, other] = [lab.pods['web']!, lab.pods['other']!];
  const check = async (more = [other]): Promise<JoinedReport> => JSON.parse((await guard(lab, ['check', '--output', 'json'], amongPods([web, ...more]))).stdout) as JoinedReport;
  await must(lab, 'sh', '-ec', `tc qdisc add dev ${web.hostInterface} clsact; tc filter add dev ${web.hostInterface} ingress prio 5 protocol ip u32 match ip dst 192.0.2.1 flowid 1:1
nft 'table inet drops { chain f { type filter hook forward priority 7; ip daddr 169.254.169.254 drop; ip6 daddr fd00:ec2::254 drop; }; }'`);
  t.match(await check(), { answer: 'blocked', reason: 'EveryProbeDied', installed: { reason: 'MayBypassNetfilter' } }, 'what packets may settle');
  t.match(await check([]), { answer: 'unknown', reason: 'MayBypassNetfilter' }, 'while every pod is in sight');
  await must(lab, 'nft', 'insert rule inet drops f tcp sport 1000 limit rate 1000/second accept');
  t.match(await lab.request(web, { localPort: 1000 }), { fate: 'reached' });
  t.match(await check(), { answer: 'unknown', installed: { answer: 'unknown', reason: 'DependsOnState' } });
});

t.test('a pod with thousands of interfaces is not looked through, and that is said', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'eni', dropped: 'eni' } });
  t.teardown(lab.remove);
  const [web, dropped] = [lab.pods['web']!, lab.pods['dropped']!];
  await must(lab, 'nft', `add table inet d; add chain inet d f { type filter hook forward priority 0; }; add rule inet d f tcp dport 80 drop`);
  await inPod(lab, web, 'for i in $(seq 1001); do echo "link add a$i type veth peer name b$i"; done | ip -batch -');
  const { value } = await probe(lab, amongPods([web, dropped]));
  t.match(value, { answer: 'unknown', found: 1, skipped: [{ networkNamespace: `/run/netns/${web.namespace}`, because: /more interfaces/ }] });
  t.equal(found(value, dropped)?.class, 'dropped');
});
