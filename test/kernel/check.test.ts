// `check` against the kernel: every answer is asked of real packets too.
import t from 'tap';
import { makeLab } from '../lab/lab.ts';
import { answersOf, apply, backends, check, dies, guard, imds, iptables, nft, passes, restore, saved, targetOf, world } from './guard.ts';

t.setTimeout(120_000);

const drop = `-d ${imds.ipv4} -i eni+ -j DROP`;

for (const backend of backends) {
  await t.test(`${backend}: the documented rules, and an ACCEPT above and below them`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
    t.teardown(lab.remove);
    const other = backend === 'nft' ? 'legacy' : 'nft';
    await iptables(lab, backend, `-I FORWARD 1 ${drop}`);
    await iptables(lab, backend, `-t mangle -A POSTROUTING -o vlan+ -d ${imds.ipv4} -j DROP`);
    const before = await world(lab);
    const documented = await check(lab);
    t.equal(await world(lab), before, 'check changes nothing');
    t.match(documented, { exitCode: 1, stderr: '', value: { answer: 'open', reason: 'PacketPasses' } });
    t.match(answersOf(documented.value), { 'eni+ ipv4': 'blocked', 'vlan+ ipv4': 'blocked', 'veth+ ipv4': 'open', 'eni+ ipv6': 'open', 'vlan+ ipv6': 'open', 'veth+ ipv6': 'open' });
    t.match(targetOf(documented.value, 'eni+ ipv4'), { proof: [{ backend, table: 'filter', chain: 'FORWARD', number: 1, rule: `-A FORWARD ${drop}` }] });
    t.ok(await dies(lab, lab.pods.ordinary));
    t.ok(await dies(lab, lab.pods.branch));
    t.ok(await passes(lab, lab.pods.six));
    t.ok(await passes(lab, lab.pods.six, { family: 6 }));

    await t.test('an ACCEPT above, by way of a chain as Calico has it', async (t) => {
      await restore(lab, backend, [
        '*filter', ':cali-FORWARD - [0:0]', ':cali-from-wl-dispatch - [0:0]',
        '-I FORWARD 1 -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
        '-A cali-FORWARD -i eni+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j cali-from-wl-dispatch',
        '-A cali-from-wl-dispatch -m comment --comment "cali:aBcDeFgHiJkLmNoP" -j MARK --set-xmark 0x10000/0x10000',
        '-A cali-FORWARD -m comment --comment "cali:MH9kMp5aNICL-Olv" -m mark --mark 0x10000/0x10000 -j ACCEPT',
        'COMMIT',
      ]);
      const { exitCode, value } = await check(lab);
      t.equal(exitCode, 1);
      const target = targetOf(value, 'eni+ ipv4');
      t.match(target, { answer: 'open', reason: 'PacketPasses', witness: { packet: { destination: '169.254.169.254', destinationPort: 80 } } });
      const accepting = target.answer === 'open' ? target.witness.path.flatMap(({ rules }) => rules).find(({ does, number }) => does === 'accept' && number > 0) : undefined;
      t.match(accepting, { backend, chain: 'cali-FORWARD', number: 2, rule: /cali:MH9kMp5aNICL-Olv/ });
      t.match(await guard(lab, ['check']), { exitCode: 1, stdout: /accepted by .*cali-FORWARD 2: .*cali:MH9kMp5aNICL-Olv/ });
      t.ok(await passes(lab, lab.pods.ordinary), 'the real packet passes');
      await iptables(lab, backend, `-C FORWARD ${drop}`);

      // The witness is a packet: sent from the pod, it gets through.
      const packet = target.answer === 'open' ? target.witness.packet : undefined;
      t.match(await lab.request(lab.pods.ordinary, { localPort: Number(packet?.sourcePort) }), { fate: 'reached', from: { port: packet?.sourcePort } });

      await iptables(lab, backend, '-D FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD');
      await iptables(lab, backend, '-A FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD');
      t.equal(targetOf((await check(lab)).value, 'eni+ ipv4').answer, 'blocked', 'below, it does no harm');
      t.ok(await dies(lab, lab.pods.ordinary));
    });

    await t.test(`a drop in ${other}, too, holds when the first goes`, async (t) => {
      await iptables(lab, other, `-A FORWARD -d ${imds.ipv4} -j DROP`);
      await iptables(lab, backend, '-I FORWARD 1 -j ACCEPT');
      const { value } = await check(lab);
      for (const name of ['eni+ ipv4', 'vlan+ ipv4', 'veth+ ipv4']) t.equal(targetOf(value, name).answer, 'blocked', name);
      t.match(targetOf(value, 'veth+ ipv4'), { proof: [{ backend: other, chain: 'FORWARD', number: 1 }] });
      for (const pod of Object.values(lab.pods)) t.ok(await dies(lab, pod), pod.name);
      await iptables(lab, other, '-I FORWARD 1 -j ACCEPT');
      t.ok(await passes(lab, lab.pods.six));
      t.equal(targetOf((await check(lab)).value, 'veth+ ipv4').answer, 'open', 'and an ACCEPT above that one opens it');
    });
  });

  await t.test(`${backend}: positions are taken again only where a packet could pass`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
    t.teardown(lab.remove);
    // With the guard table no packet comes as far as these rules.
    const backendArgs = ['--backend', backend, '--guard', 'none'];
    t.match(await apply(lab, backendArgs), { exitCode: 0 });

    await t.test('a foreign REJECT on line 1, as the VPC CNI puts it: apply does not fight for the line', async (t) => {
      await iptables(lab, backend, '-I FORWARD 1 ! -i eth0 -d 169.254.172.0/22 -m comment --comment "AWS" -m conntrack --ctstate NEW -j REJECT'.replaceAll('"', ''));
      await iptables(lab, backend, '-I FORWARD 1 -i eni+ -m comment --comment rival -j ACCEPT');
      const before = await world(lab);
      t.match(await apply(lab, backendArgs), { exitCode: 0, value: { steps: [], answer: 'blocked' } }, 'not for an ACCEPT above one layer either: the other holds');
      t.equal(await world(lab), before);
      t.ok(await dies(lab, lab.pods.ordinary));
    });

    await t.test('an ACCEPT above both layers: apply takes its positions, once', async (t) => {
      const live = await (async () => {
        await iptables(lab, backend, '-t mangle -I FORWARD 1 -i eni+ -m comment --comment rival -j ACCEPT');
        return lab.openLive(lab.pods.ordinary);
      })();
      t.match(await check(lab), { exitCode: 1, value: { answer: 'open' } });
      const fought = await apply(lab, backendArgs);
      t.match(fought, { exitCode: 0, value: { answer: 'blocked', problems: [] } });
      t.ok(fought.value.steps.length > 0);
      for (const step of fought.value.steps) t.match(step.because.join(' '), 'a packet passes it');
      t.ok(await dies(lab, lab.pods.ordinary));
      t.same(await live.request({ timeoutMs: 500 }), { fate: 'timeout', during: 'answer' });
      t.ok(await passes(lab, 'node'));
      t.match(await saved(lab, backend), '--comment rival -j ACCEPT', 'what is not ours is still there');
      const before = await world(lab);
      t.match(await apply(lab, backendArgs), { exitCode: 0, value: { steps: [] } });
      t.equal(await world(lab), before, 'a second apply writes nothing');
    });

    await t.test('an ACCEPT for established connections on top of both', async (t) => {
      for (const table of ['filter', 'mangle']) await iptables(lab, backend, `-t ${table} -I FORWARD 1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`);
      t.match(await check(lab), { exitCode: 0, value: { answer: 'blocked', reason: 'LiveConnectionsPass' } });
      t.match(await apply(lab, backendArgs), { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
      t.same((await apply(lab, backendArgs)).value.steps, []);
    });
  });
}

t.test('a native nft table drops as well as any', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  await nft(lab, 'table inet site {\n chain f {\n type filter hook forward priority 10; policy accept;\n ip daddr 169.254.169.254 drop\n iifname "eni*" ip6 daddr fd00:ec2::254 drop\n }\n}\n');
  const { value, exitCode } = await check(lab);
  t.equal(exitCode, 1);
  t.match(answersOf(value), { 'eni+ ipv4': 'blocked', 'veth+ ipv4': 'blocked', 'eni+ ipv6': 'blocked', 'veth+ ipv6': 'open' });
  t.match(targetOf(value, 'eni+ ipv4'), { proof: [{ backend: 'nft-native', family: 'inet', table: 'site', chain: 'f', number: 1 }] });
  for (const [pod, family] of [[lab.pods.ordinary, 4], [lab.pods.six, 4], [lab.pods.six, 6]] as const) t.ok(await dies(lab, pod, { family }), `${pod.name} ${family}`);
  await nft(lab, 'insert rule inet site f iifname "eni*" accept\n');
  t.equal(targetOf((await check(lab)).value, 'eni+ ipv4').answer, 'open');
  t.ok(await passes(lab, lab.pods.ordinary));
});

t.test('several native tables are read, each', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  const chainWith = (rule: string): string => `{\n chain f {\n type filter hook forward priority 10; policy accept;\n ${rule}\n }\n}\n`;
  await nft(lab, `table ip one ${chainWith('ip daddr 192.0.2.1 drop')}table ip two ${chainWith('ip daddr 169.254.169.254 drop')}table inet three ${chainWith('ip6 daddr fd00:ec2::254 drop')}`);
  t.match(await check(lab), { exitCode: 0, value: { answer: 'blocked' } });
  t.ok(await dies(lab, lab.pods.ordinary));
});

t.test('a careless rule cuts off neighbours: said, and not judged', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { exitCode: 0 });
  const narrow = await check(lab);
  for (const service of narrow.value.collateral) t.equal(service.answer, 'open', service.what);
  await iptables(lab, 'nft', '-I FORWARD 1 -d 169.254.0.0/16 -j DROP');
  const { exitCode, value } = await check(lab);
  t.equal(exitCode, 0);
  const cut = value.collateral.filter(({ answer }) => answer === 'blocked').map(({ address }) => address);
  t.same(cut, ['169.254.169.253', '169.254.169.123'], 'DNS and time; what is delivered on the node itself meets no FORWARD');
  for (const one of value.collateral) if (one.answer === 'blocked') t.match(one.by, { rule: '-A FORWARD -d 169.254.0.0/16 -j DROP', number: 1 });
  const text = await guard(lab, ['check']);
  t.match(text, { exitCode: 0, stdout: /^warning {2}169\.254\.169\.253 \(VPC DNS resolver\) is cut off too, by .*169\.254\.0\.0\/16/m });
  t.match(await guard(lab, ['check', '--output', 'npd']), { exitCode: 0, stdout: 'blocked EveryPacketDropped\n' });
});
