// Other ways than a veth of its own by which a pod can be connected: what is on the node then sees more, less, or nothing of it.
import t from 'tap';
import { guard, must, nft } from '../kernel/guard.ts';
import { type Lab, type Pod, makeLab } from '../lab/lab.ts';
import { amongPods, asMachine, classesOf, found, probe } from './world.ts';

t.setTimeout(120_000);

const imds = '169.254.169.254';
/** Each has four connections at once, and there are 512 ports. */
const PODS = 140;
const rule = (hook: string, words: string): string => `table inet rules\ndelete table inet rules\ntable inet rules {\n chain c {\n type ${hook}\n ip daddr ${imds} tcp dport 80 ${words}\n }\n}\n`;
const forward = 'filter hook forward priority filter';

/** `ip` on the node, and in a pod. */
const ip = (lab: Lab, ...lines: readonly string[]): Promise<string> => must(lab, 'sh', '-ec', `ip -batch - <<'END'\n${lines.join('\n')}\nEND`);
async function ipIn(lab: Lab, { namespace }: Pod, ...lines: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await lab.exec(namespace, 'ip', ['-batch', '-'], { stdin: `${lines.join('\n')}\n` });
  if (exitCode !== 0) throw new Error(stderr);
}

t.test('pods on a bridge of the node', async (t) => {
  const lab: Lab = await makeLab({ pods: { web: 'loose', api: 'loose' } });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  await ip(lab, 'link add cni0 type bridge', 'link set cni0 up', 'addr add 10.0.1.1/24 dev cni0');
  for (const [at, pod] of pods.entries()) {
    await ip(lab, `link add vethb${at} type veth peer name eth0 netns ${pod.namespace}`, `link set vethb${at} master cni0 up`);
    await ipIn(lab, pod, 'link set eth0 up', `addr add 10.0.1.${201 + at}/24 dev eth0`, 'route add default via 10.0.1.1');
  }
  await lab.answerAt('node', { address: '10.0.0.10', port: 8181 });
  for (const [script, expected, exit] of [
    [rule(forward, 'accept'), 'open (open, open)', 1],
    [rule(forward, 'drop'), 'dropped (dropped, dropped)', 0],
    [rule(forward, 'reject with tcp reset'), 'rejected (rejected, rejected)', 0],
    [rule('nat hook prerouting priority dstnat', 'dnat ip to 10.0.0.10:8181'), 'proxied (proxied, proxied)', 2],
  ] as const) {
    await nft(lab, script);
    const { exitCode, value } = await probe(lab);
    t.equal(exitCode, exit, expected);
    for (const pod of pods) t.equal(classesOf(found(value, pod)), expected, pod.name);
  }
  await t.test('together with the uplink: frames pass by every rule of IP', async (t) => {
    await nft(lab, rule(forward, 'drop'));
    // Where br_netfilter is loaded it may be told to show bridged packets to iptables: the default of some kernels.
    await must(lab, 'sh', '-c', 'for one in /proc/sys/net/bridge/bridge-nf-call-iptables; do [ ! -e $one ] || echo 0 >$one; done');
    await ip(lab, 'addr flush dev cni0', 'addr flush dev ens5', 'link set ens5 master cni0', 'addr add 10.0.0.10/24 dev cni0', `route replace ${imds} dev cni0`);
    for (const [at, pod] of pods.entries()) await ipIn(lab, pod, 'addr flush dev eth0', `addr add 10.0.0.${201 + at}/24 dev eth0`, `route add ${imds} dev eth0`);
    for (const pod of pods) t.match(await lab.request(pod), { fate: 'reached' }, `${pod.name}, by itself`);
    // IMDS would be one more on that bridge.
    const { exitCode, value } = await probe(lab, amongPods(pods));
    for (const pod of pods) t.equal(classesOf(found(value, pod)), 'open (open, open)', pod.name);
    t.match({ exitCode, answer: value.answer }, { exitCode: 1, answer: 'open' });
  });
});

t.test('a pod with a second card beside its veth', async (t) => {
  const lab = await makeLab({ pods: { both: 'eni' } });
  t.teardown(lab.remove);
  const { both } = lab.pods;
  await nft(lab, rule(forward, 'drop'));
  t.match(await probe(lab), { exitCode: 0, value: { answer: 'blocked' } });
  await ip(lab, `link add link ens5 name net1 netns ${both.namespace} type macvlan mode bridge`);
  await ipIn(lab, both, 'link set net1 up', 'addr add 10.0.0.203/24 dev net1');
  const byVeth = await probe(lab);
  t.match(found(byVeth.value, both), { class: 'dropped', kind: 'macvlan', interfaces: [both.hostInterface] }, 'its packets still go by the veth');
  await ipIn(lab, both, `route add ${imds} dev net1`);
  const byCard = await probe(lab);
  t.match(byCard, { exitCode: 1, value: { answer: 'open', message: both.namespace } });
  t.match(found(byCard.value, both), { class: 'open', kind: 'macvlan' });
});

t.test('a whole card in a pod: nobody on the node sees what it sends', async (t) => {
  const lab = await makeLab({ pods: { card: 'loose', web: 'eni' } });
  t.teardown(lab.remove);
  const { card, web } = lab.pods;
  // There is no card to be had here. A tunnel to IMDS is nothing that the node looks into either.
  const tunnel = (remote: string): string => `link add tunnel0 type vxlan id 9 dstport 4789 remote ${remote}`;
  await ip(lab, tunnel('10.0.0.1'), `link set tunnel0 netns ${card.namespace} name eth0`);
  await ipIn(lab, card, 'link set eth0 up', 'addr add 10.0.9.2/24 dev eth0', 'route add default via 10.0.9.1');
  const atImds = await lab.exec(lab.imds, 'ip', ['-batch', '-'], { stdin: `${tunnel('10.0.0.10')}\nlink set tunnel0 up\naddr add 10.0.9.1/24 dev tunnel0\n` });
  t.equal(atImds.exitCode, 0, atImds.stderr);
  await nft(lab, rule(forward, 'drop'));
  const machine = asMachine([card, web], '0f5c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b');
  const open = await probe(lab, machine);
  t.match({ exitCode: open.exitCode, value: open.value }, { exitCode: 1, value: { answer: 'open', found: 2 } });
  t.same(open.value.networks.filter(({ family }) => family === 'ipv4').map(({ class: kind }) => kind).sort(), ['dropped', 'open']);
  t.match(await guard(lab, ['probe'], machine), { exitCode: 1 }, 'which is always among those that are tried');

  await lab.exec(card.namespace, 'nft', ['-f', '-'], { stdin: rule('filter hook output priority filter', 'drop') });
  const quiet = await probe(lab, machine);
  t.match({ exitCode: quiet.exitCode, value: quiet.value }, { exitCode: 2, value: { answer: 'unknown' } }, 'its silence is not of the node');
  t.same(quiet.value.networks.filter(({ family }) => family === 'ipv4').map(({ class: kind }) => kind).sort(), ['dropped', 'inconclusive']);
});

t.test('more connections than there are ports: those of a card are never taken for those of another pod', async (t) => {
  // Files are tried in the order of their names, and that of the 99th pod is the last.
  const names = Array.from({ length: PODS }, (_, at) => (at === 98 ? 'card' : `pod${at}`));
  const lab: Lab = await makeLab({ pods: Object.fromEntries(names.map((name) => [name, name === 'card' ? 'macvlan' : 'eni'])), residents: 'when-asked' });
  t.teardown(lab.remove);
  const card = lab.pods['card']!;
  await nft(lab, rule(forward, 'drop'));
  t.equal(classesOf(found((await probe(lab)).value, card)), 'open (open, open)');
  await lab.exec(card.namespace, 'nft', ['-f', '-'], { stdin: rule('filter hook output priority filter', 'drop') });
  const { value } = await probe(lab);
  t.equal(classesOf(found(value, card)), 'inconclusive (inconclusive, inconclusive)');
  t.equal(value.networks.filter(({ class: kind }) => kind === 'dropped').length, PODS - 1);
});
