// What carries packets past every rule: then the answer is unknown, because of something that has a name. Never blocked.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { type Lab, makeLab } from '../lab/lab.ts';
import { apply, backends, check, dies, guard, imds, iptables, must, nft, passes } from './guard.ts';

t.setTimeout(120_000);

/** Exit 2, and what the pattern names is a doubt of every target whose name has the word. */
async function doubted(t: Test, lab: Lab, reason: string, names: RegExp, whose = ''): Promise<void> {
  const { exitCode, value } = await check(lab);
  t.match({ exitCode, answer: value.answer, reason: value.reason }, { exitCode: 2, answer: 'unknown', reason });
  for (const target of value.targets.filter(({ name, family }) => family === 'ipv4' && name.includes(whose))) {
    t.match(target, { answer: 'unknown', reason }, target.name);
    t.ok(target.answer === 'unknown' && target.doubts.some(({ why, rule }) => names.test(`${why} ${rule?.rule ?? ''}`)), `${target.name} names ${names}`);
  }
  t.match(await guard(lab, ['check', '--no-probe']), { exitCode: 2, stdout: names });
}

async function guarded(t: Test): Promise<Lab<'ordinary' | 'other'>> {
  const lab = await makeLab({ pods: { ordinary: 'eni', other: 'eni' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { exitCode: 0, value: { answer: 'blocked' } });
  return lab;
}

t.test('pods with nothing but veths of the node: no doubt', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
});

t.test('a macvlan pod passes through every layer', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', macvlan: 'macvlan' } });
  t.teardown(lab.remove);
  const applied = await apply(lab);
  t.match(applied, { exitCode: 2, value: { answer: 'unknown', reason: 'MayBypassNetfilter', problems: [] } });
  t.ok(applied.value.steps.length > 0, 'it has written all the same');
  t.ok(await passes(lab, lab.pods.macvlan), 'a real packet');
  t.ok(await dies(lab, lab.pods.ordinary));
  await doubted(t, lab, 'MayBypassNetfilter', new RegExp(`eth0 in the namespace of ${lab.pods.macvlan.namespace} is a macvlan interface`));
});

t.test('a chain of a netdev table that forwards by itself', async (t) => {
  const lab = await guarded(t);
  await nft(lab, `table netdev quick {\n chain i {\n type filter hook ingress device "${lab.pods.ordinary.hostInterface}" priority 0\n ip daddr 169.254.169.254 fwd ip to 10.0.0.1 device "ens5"\n }\n}\n`);
  t.ok(await passes(lab, lab.pods.ordinary), 'a real packet');
  await doubted(t, lab, 'MayBypassNetfilter', /chain netdev quick i hook ingress/);
  await nft(lab, `flush chain netdev quick i\nadd rule netdev quick i ip daddr 192.0.2.1 drop\n`);
  t.match(await check(lab), { exitCode: 0 }, 'one that only drops is no doubt');
});

t.test('an nft flowtable', { skip: hasConfig('NF_FLOW_TABLE') ? false : 'this kernel has no flowtables (CONFIG_NF_FLOW_TABLE)' }, async (t) => {
  const lab = await guarded(t);
  await nft(lab, `table inet fast {\n flowtable ft {\n hook ingress priority 0\n devices = { ens5, ${lab.pods.ordinary.hostInterface} }\n }\n chain f {\n type filter hook forward priority 0\n ip protocol tcp flow add @ft\n }\n}\n`);
  await doubted(t, lab, 'MayBypassNetfilter', /flowtable inet fast ft/);
});

const classifier = hasConfig('NET_CLS_U32') && hasConfig('NET_ACT_MIRRED');
t.test('a tc filter on a pod interface that sends packets on', { skip: classifier ? false : 'this kernel has no u32 or mirred' }, async (t) => {
  const lab = await guarded(t);
  const { hostInterface, namespace } = lab.pods.ordinary;
  await must(lab, 'tc', 'qdisc', 'add', 'dev', hostInterface, 'clsact');
  t.match(await check(lab), { exitCode: 0 }, 'a hook without a filter is no doubt');
  await must(lab, 'tc', 'filter', 'add', 'dev', hostInterface, 'ingress', 'protocol', 'ip', 'u32', 'match', 'ip', 'dst', imds.ipv4, 'action', 'mirred', 'egress', 'redirect', 'dev', 'ens5');
  // The frame goes out as it came in: so the pod has to address it to IMDS's end of the wire.
  const { stdout } = await lab.exec(lab.imds, 'cat', ['/sys/class/net/uplink0/address']);
  await must(lab, 'ip', '-n', namespace, 'neigh', 'replace', '169.254.1.1', 'lladdr', stdout.trim(), 'dev', 'eth0', 'nud', 'permanent');
  t.ok(await passes(lab, lab.pods.ordinary), 'a real packet');
  t.ok(await dies(lab, lab.pods.other));
  await doubted(t, lab, 'MayBypassNetfilter', new RegExp(`u32 filter on ${hostInterface} may redirect packets`));
  await must(lab, 'tc', 'qdisc', 'del', 'dev', hostInterface, 'clsact');
  t.match(await check(lab), { exitCode: 0 });
});

t.test('a tc filter on the uplink alone is no doubt', { skip: classifier ? false : 'this kernel has no u32 or mirred' }, async (t) => {
  const lab = await guarded(t);
  await must(lab, 'tc', 'qdisc', 'add', 'dev', 'ens5', 'clsact');
  await must(lab, 'tc', 'filter', 'add', 'dev', 'ens5', 'egress', 'protocol', 'ip', 'u32', 'match', 'ip', 'dst', '192.0.2.1/32', 'action', 'mirred', 'egress', 'redirect', 'dev', 'ens5');
  t.match(await check(lab), { exitCode: 0, value: { reason: 'EveryPacketDropped' } });
});

t.test('a BPF filter on a pod interface: a doubt, whatever it does', async (t) => {
  const lab = await guarded(t);
  const { hostInterface } = lab.pods.ordinary;
  await must(lab, 'tc', 'qdisc', 'add', 'dev', hostInterface, 'clsact');
  await must(lab, 'tc', 'filter', 'add', 'dev', hostInterface, 'ingress', 'bpf', 'da', 'bytecode', '1,6 0 0 4294967295,');
  await doubted(t, lab, 'MayBypassNetfilter', new RegExp(`bpf filter on ${hostInterface}`));
});

t.test('a pod on a bridge that the uplink is a port of: its frames need not be routed', async (t) => {
  const lab = await guarded(t);
  const { hostInterface, namespace } = lab.pods.ordinary;
  const ip = async (lines: string, ...before: readonly string[]): Promise<void> => {
    for (const line of lines.split('; ')) await must(lab, 'ip', ...before, ...line.split(' '));
  };
  await ip('link add cni0 type bridge; link set cni0 up');
  t.match(await check(lab), { exitCode: 0 }, 'a bridge alone is no doubt');
  await ip(`link set ${lab.pods.other.hostInterface} master cni0`);
  t.match(await check(lab), { exitCode: 0 }, 'nor one of pods alone');
  await ip(`link add br0 type bridge; link set br0 up; link set ${hostInterface} master br0; link set ens5 master br0`);
  await ip('addr flush dev ens5; addr add 10.0.0.10/24 dev br0; route replace 169.254.169.254 dev br0; route replace default via 10.0.0.1 dev br0');
  await ip('addr add 10.0.0.77/24 dev eth0; route replace 169.254.169.254 dev eth0 src 10.0.0.77', '-n', namespace);
  // Where br_netfilter is loaded it may be told to show bridged packets to iptables: the default of some kernels.
  await must(lab, 'sh', '-c', 'for one in /proc/sys/net/bridge/bridge-nf-call-iptables; do [ ! -e $one ] || echo 0 >$one; done');
  t.ok(await passes(lab, lab.pods.ordinary), 'a real packet');
  await doubted(t, lab, 'MayBypassNetfilter', new RegExp(`${hostInterface} is a port of the bridge br0`));
});

for (const backend of backends) {
  await t.test(`${backend}: packets that are sent to the node, as kube2iam does it`, async (t) => {
    const lab = await guarded(t);
    const dnat = `-d ${imds.ipv4} -i eni+ -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.10:8181`;
    await iptables(lab, backend, `-t nat -A PREROUTING ${dnat}`);
    await doubted(t, lab as Lab, 'AnsweredElsewhere', /DNAT --to-destination 10\.0\.0\.10:8181/, 'eni+');
    const again = await apply(lab);
    t.match(again, { exitCode: 2, value: { steps: [], reason: 'AnsweredElsewhere' } }, 'apply cannot mend it, and does not try');
    await iptables(lab, backend, `-t nat -D PREROUTING ${dnat}`);
    t.match(await check(lab), { exitCode: 0 });
  });
}

function hasConfig(name: string): boolean {
  try {
    return new RegExp(`^CONFIG_${name}=[ym]$`, 'm').test(gunzipSync(readFileSync('/proc/config.gz')).toString());
  } catch {
    return true; // not told: then the test itself will say
  }
}
