// What happens to all pods at once: the node's rules, its translations, the hop limit, and IMDS that answers nobody.
import t from 'tap';
import type { ProbeReport } from '../../agent/core/probe/report.ts';
import { apply, guard, must, nft } from '../kernel/guard.ts';
import { type Lab, type Pod, makeLab } from '../lab/lab.ts';
import { type CauseName, type Plot, causeNames, causeOf, happensTo, play, setScene } from './causes.ts';
import { classesOf, found, probe } from './world.ts';

t.setTimeout(120_000);

/** `{ 'web ipv4': 'dropped (dropped, dropped)' }`, of families that the pod has. */
const told = (report: ProbeReport, pods: readonly Pod[]): Readonly<Record<string, string>> =>
  Object.fromEntries(pods.flatMap((pod) => (pod.address6 === '' ? (['ipv4'] as const) : (['ipv4', 'ipv6'] as const)).map((family) => [`${pod.name} ${family}`, classesOf(found(report, pod, family))])));
const all = (keys: readonly string[], classes: string): Readonly<Record<string, string>> => Object.fromEntries(keys.map((key) => [key, classes]));
const controls = (report: ProbeReport): readonly string[] => report.control.map((control) => `${control.family} ${classesOf(control)}`);

t.test('rules that drop: blocked, with a control that says that IMDS is there', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  const keys = ['web ipv4', 'branch ipv4', 'six ipv4', 'six ipv6'];
  t.match(await apply(lab), { exitCode: 0 });
  const blocked = await probe(lab);
  t.match(blocked, { exitCode: 0, value: { answer: 'blocked', reason: 'EveryProbeDied', found: 3 } });
  t.same(told(blocked.value, pods), all(keys, 'dropped (dropped, dropped)'));
  t.same(controls(blocked.value), ['ipv4 open (open, open)', 'ipv6 open (open, open)']);
  for (const [pod, family, name] of [[lab.pods.web, 'ipv4', lab.pods.web.hostInterface], [lab.pods.branch, 'ipv4', lab.pods.branch.hostInterface], [lab.pods.six, 'ipv4', lab.pods.six.hostInterface4], [lab.pods.six, 'ipv6', lab.pods.six.hostInterface]] as const) {
    t.same(found(blocked.value, pod, family)?.interfaces, [name], `${pod.name}, ${family}: where its packets came out`);
  }

  t.match(await apply(lab, ['--action', 'reject']), { exitCode: 0 });
  const rejected = await probe(lab);
  t.match(rejected, { exitCode: 0, value: { answer: 'blocked' } });
  // What the node itself sends finds no way to a branch-ENI pod.
  t.same(told(rejected.value, pods), { ...all(keys, 'rejected (rejected, rejected)'), 'branch ipv4': 'dropped (dropped, dropped)' });

  await must(lab, 'nft', 'flush', 'ruleset');
  for (const program of ['iptables-legacy', 'ip6tables-legacy']) for (const table of ['filter', 'mangle']) await must(lab, program, '-t', table, '-F');
  const open = await probe(lab);
  t.match(open, { exitCode: 1, value: { answer: 'open', reason: 'PodReachedImds' } });
  t.same(told(open.value, pods), all(keys, 'open (open, open)'));
});

t.test('a pod with a card of its own goes by every rule, and is named', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', card: 'macvlan' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { value: { problems: [] } });
  const { exitCode, value } = await probe(lab);
  t.match({ exitCode, value }, { exitCode: 1, value: { answer: 'open', reason: 'PodReachedImds', message: lab.pods.card.namespace } });
  t.match(found(value, lab.pods.card), { class: 'open', kind: 'macvlan' });
  t.match(found(value, lab.pods.web), { class: 'dropped', kind: 'eni+' });
});

t.test('without --all, some of each kind that rules tell apart, and every pod with a card', async (t) => {
  const lab: Lab = await makeLab({ pods: { a: 'eni', b: 'eni', c: 'eni', d: 'eni', e: 'vlan', f: 'v6', g: { kind: 'eni', prefix: 'cali' }, h: 'macvlan', i: 'macvlan', j: 'macvlan' } });
  t.teardown(lab.remove);
  const { stdout } = await guard(lab, ['probe', '--output', 'json']);
  const report = JSON.parse(stdout) as ProbeReport;
  t.equal(report.found, 10);
  const tried = Object.values(lab.pods).filter((pod) => found(report, pod) !== undefined).map(({ name }) => name);
  t.same(tried.slice(-6), ['e', 'f', 'g', 'h', 'i', 'j']);
  t.ok(tried.length > 6 && tried.length < 10, `not all of those of which there are many: ${tried.join(' ')}`);
});

for (const version1 of [true, false]) {
  t.test(`the hop limit, as it is on the wire, with version 1 ${version1 ? 'on' : 'off'}`, async (t) => {
    const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan', six: 'v6' }, version1 });
    t.teardown(lab.remove);
    const pods = Object.values(lab.pods);
    const keys = ['web ipv4', 'branch ipv4', 'six ipv4', 'six ipv6'];
    const v1 = version1 ? 'open' : 'v1-off';
    for (const hops of [1, 2, 3]) {
      await lab.setHopLimit(hops);
      const { exitCode, value } = await probe(lab);
      t.same(value.hopLimit, { ipv4: hops, ipv6: hops });
      t.same(told(value, pods), all(keys, hops > 1 ? `open (${v1}, open)` : version1 ? 'open (open, hop-limit)' : 'hop-limit (v1-off, hop-limit)'), `hop limit ${hops}`);
      t.same(controls(value), [`ipv4 open (${v1}, open)`, `ipv6 open (${v1}, open)`], 'which the node itself is always near enough for');
      t.same([...new Set(value.networks.filter(({ class: kind }) => kind !== 'no-route').map(({ hops, tokenTtl }) => `${hops} ${tokenTtl}`))], [`1 ${hops}`], 'pods are one hop away');
      if (hops > 1 || version1) t.match({ exitCode, value }, { exitCode: 1, value: { answer: 'open' } });
      else t.match({ exitCode, value }, { exitCode: 2, value: { answer: 'unknown', reason: 'OnlyHopLimit' } });
    }
  });
}

t.test('behind a masquerade that gives everybody other ports', async (t) => {
  const names = causeNames.filter((name) => {
    const { service, hopLimit, imds } = causeOf(name);
    // IMDS cannot tell one pod from another any more.
    return service === undefined && hopLimit === undefined && imds === undefined;
  });
  const parts = (['eni', 'v6'] as const).flatMap((kind) => names.filter((name) => happensTo(name, { kind } as Pod)).map((name) => [`${kind} ${name}`, kind, name] as const));
  const lab: Lab = await makeLab({ pods: { ...Object.fromEntries(parts.map(([pod, kind]) => [pod, kind])), other: 'v6' }, residents: 'when-asked' });
  t.teardown(lab.remove);
  const plot: Plot = new Map(parts.map(([pod, , name]): [Pod, CauseName] => [lab.pods[pod]!, name]));
  await play(await setScene(lab, lab.pods['other']!), plot);
  await nft(lab, 'table inet uplink {\n chain p {\n type nat hook postrouting priority srcnat\n oifname "ens5" counter masquerade random,fully-random\n }\n}\n');
  for (const hops of ['none', 1] as const) {
    await lab.setHopLimit(hops);
    await lab.seen();
    const { value } = await probe(lab);
    // A token's answer that does not come for two causes is called by either.
    const single = [...plot].filter(([, name]) => hops === 'none' || causeOf(name).v2 !== 'inconclusive');
    const wrong = single.flatMap(([pod, name]) =>
      (pod.address6 === '' ? (['ipv4'] as const) : (['ipv4', 'ipv6'] as const)).flatMap((family) => {
        const { v1, v2 } = causeOf(name);
        const expected = `${v1}, ${v2 === 'open' && hops === 1 ? 'hop-limit' : v2}`;
        const probed = found(value, pod, family);
        return `${probed?.v1.class}, ${probed?.v2.class}` === expected ? [] : [{ name: `${pod.name}, ${family}`, expected, said: classesOf(probed), because: [probed?.v1.because, probed?.v2.because] }];
      }),
    );
    t.same(wrong, [], `hop limit ${hops}`);
    t.same(new Set((await lab.seen()).map(({ from }) => from)), new Set(['10.0.0.10', '2001:db8:0:1::10']), 'IMDS has seen the node and nobody else');
  }
});

t.test('a mock at the address of IMDS on the node answers everybody, and proves nothing', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  for (const address of ['169.254.169.254', 'fd00:ec2::254']) {
    await must(lab, 'ip', 'addr', 'add', address, 'dev', 'lo');
    await lab.answerAt('node', { address, port: 80 });
  }
  const { exitCode, value } = await probe(lab);
  t.match({ exitCode, value }, { exitCode: 2, value: { answer: 'unknown', reason: 'AnsweredElsewhere' } });
  t.same(told(value, Object.values(lab.pods)), all(['web ipv4', 'six ipv4', 'six ipv6'], 'proxied (proxied, proxied)'));
  t.same(controls(value), ['ipv4 proxied (proxied, proxied)', 'ipv6 proxied (proxied, proxied)']);
  t.same(await lab.seen(), []);
});

t.test('IMDS that does not answer the node either: silence proves nothing', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  const keys = ['web ipv4', 'six ipv4', 'six ipv6'];
  const atImds = async (rule: string): Promise<void> => {
    const { exitCode, stderr } = await lab.exec(lab.imds, 'nft', ['-f', '-'], { stdin: `table inet dark\ndelete table inet dark\ntable inet dark {\n chain i {\n type filter hook input priority filter\n ${rule}\n }\n}\n` });
    t.equal(exitCode, 0, stderr);
  };
  await t.test('it is dark', async (t) => {
    await atImds('tcp dport 80 drop');
    const { exitCode, value } = await probe(lab);
    t.match({ exitCode, value }, { exitCode: 2, value: { answer: 'unknown', reason: 'ControlFailed' } });
    t.same(told(value, pods), all(keys, 'inconclusive (inconclusive, inconclusive)'));
  });
  await t.test('it is dark, and the node drops', async (t) => {
    await nft(lab, 'table inet drops {\n chain f {\n type filter hook forward priority filter\n tcp dport 80 drop\n }\n}\n');
    t.match(await probe(lab), { exitCode: 2, value: { answer: 'unknown', reason: 'ControlFailed' } });
  });
  await must(lab, 'nft', 'delete', 'table', 'inet', 'drops');
  await t.test('it is dark over IPv4, and the node drops IPv6: what one family proves, it does not prove of the other', async (t) => {
    await nft(lab, 'table inet drops {\n chain f {\n type filter hook forward priority filter\n meta nfproto ipv6 tcp dport 80 drop\n }\n}\n');
    await atImds('meta nfproto ipv4 tcp dport 80 drop');
    const { exitCode, value } = await probe(lab);
    t.same(controls(value), ['ipv4 inconclusive (inconclusive, inconclusive)', 'ipv6 open (open, open)']);
    t.same(told(value, [lab.pods.six]), { 'six ipv4': 'inconclusive (inconclusive, inconclusive)', 'six ipv6': 'dropped (dropped, dropped)' });
    t.match({ exitCode, answer: value.answer }, { exitCode: 2, answer: 'unknown' });
    await must(lab, 'nft', 'delete', 'table', 'inet', 'drops');
  });
  await t.test('IPv6 is off, as EC2 has it: IPv4 alone decides', async (t) => {
    await nft(lab, 'table inet drops {\n chain f {\n type filter hook forward priority filter\n meta nfproto ipv4 tcp dport 80 drop\n }\n}\n');
    await atImds('meta nfproto ipv6 tcp dport 80 drop');
    t.match(await probe(lab), { exitCode: 0, value: { answer: 'blocked' } });
    await must(lab, 'nft', 'delete', 'table', 'inet', 'drops');
  });
  await t.test('nothing listens', async (t) => {
    await atImds('');
    await lab.closeService();
    const { exitCode, value } = await probe(lab);
    t.match({ exitCode, value }, { exitCode: 2, value: { answer: 'unknown', reason: 'ControlFailed' } });
    t.same(told(value, pods), all(keys, 'inconclusive (inconclusive, inconclusive)'));
  });
  await t.test('the node keeps itself from it', async (t) => {
    await nft(lab, 'table inet own {\n chain o {\n type filter hook output priority filter\n ip daddr 169.254.169.254 drop\n ip6 daddr fd00:ec2::254 drop\n }\n}\n');
    t.match(await probe(lab), { exitCode: 2, value: { answer: 'unknown', reason: 'ControlFailed' } });
  });
});

t.test('who never ends an answer does not hold the probe up, and keeps nobody out', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  await lab.setService({ token: 'endless-body', metadata: 'endless-body' }, ...Object.values(lab.pods));
  const { exitCode, value } = await probe(lab);
  t.not(exitCode, 0);
  t.not(value.answer, 'blocked');
  for (const network of value.networks) t.notMatch(network.class, /dropped|rejected|hop-limit/);
});
