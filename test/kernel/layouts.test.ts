// The two layouts and the two actions: each alone, and from one to the other and back.
import t from 'tap';
import { makeLab } from '../lab/lab.ts';
import { apply, backends, check, dies, expected, families, fates, foreign, guard, guardScript, imds, iptables, must, nft, passes, remove, restore, rules, saved, world } from './guard.ts';
import { without } from './surroundings.ts';

t.setTimeout(120_000);

const OTHER_TABLE = 'table inet imds-guard';

for (const backend of backends) {
  await t.test(`${backend}: --layout chain keeps every DROP in IMDS-GUARD`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
    t.teardown(lab.remove);
    const pods = Object.values(lab.pods);
    for (const table of Object.values(foreign('ipv4'))) await restore(lab, backend, table);
    const before = await rules(lab);
    const chain = ['--backend', backend, '--layout', 'chain', '--guard', 'none'];
    const live = await lab.openLive(lab.pods.branch);
    t.match(await apply(lab, chain), { exitCode: 0, value: { answer: 'blocked', problems: [] } });
    for (const family of families) {
      const ours = (await saved(lab, backend, family)).split('\n').filter((line) => line.includes(`-d ${imds[family]} `));
      const [inside, jumps] = [ours.filter((line) => line.startsWith('-A IMDS-GUARD ')), ours.filter((line) => !line.startsWith('-A IMDS-GUARD '))];
      t.equal(inside.length, 2, 'one in filter, one in mangle');
      for (const line of inside) t.match(line, / -j DROP$/);
      t.ok(jumps.length >= 4);
      for (const line of jumps) t.match(line, / -j IMDS-GUARD$/);
    }
    t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
    t.same(await live.request({ timeoutMs: 500 }), { fate: 'timeout', during: 'answer' });
    const applied = await world(lab);
    t.match(await apply(lab, chain), { exitCode: 0, value: { steps: [] } });
    t.equal(await world(lab), applied);

    await t.test('a chain that somebody emptied is filled again', async (t) => {
      for (const table of ['filter', 'mangle']) await iptables(lab, backend, `-t ${table} -F IMDS-GUARD`);
      t.ok(await passes(lab, lab.pods.ordinary));
      t.match(await check(lab), { exitCode: 1 });
      t.match(await apply(lab, chain), { exitCode: 0 });
      t.ok(await dies(lab, lab.pods.ordinary));
    });

    await t.test('one to which somebody added an ACCEPT, too', async (t) => {
      for (const table of ['filter', 'mangle']) await iptables(lab, backend, `-t ${table} -I IMDS-GUARD -i eni+ -j ACCEPT`);
      t.ok(await passes(lab, lab.pods.ordinary));
      t.match(await apply(lab, chain), { exitCode: 0 });
      t.ok(await dies(lab, lab.pods.ordinary));
      t.notMatch(await saved(lab, backend), '-A IMDS-GUARD -i eni+');
    });

    t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
    t.equal(await rules(lab), before);
  });

  await t.test(`${backend}: from one layout to the other nothing of the first stays, and nobody gets through`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
    t.teardown(lab.remove);
    const pods = Object.values(lab.pods);
    const apply1 = async (layout: string): Promise<void> => {
      const args = ['--backend', backend, '--guard', 'none', '--layout', layout];
      t.match(await apply(lab, args), { exitCode: 0, value: { answer: 'blocked', problems: [] } }, layout);
      t.same((await apply(lab, args)).value.steps, [], `${layout}, again`);
    };
    await apply1('documented');
    const documented = await rules(lab);
    t.match(await remove(lab), { exitCode: 0 });
    await apply1('chain');
    const chain = await rules(lab);
    await apply1('documented');
    t.equal(sorted(await rules(lab)), sorted(documented), 'chain, then documented: as if it had always been documented');
    t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
    await apply1('chain');
    t.equal(sorted(await rules(lab)), sorted(chain), 'and back');
    t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
    t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
    t.equal(await rules(lab), '');
  });

  await t.test(`${backend}: a change of layout leaves an operator's own documented rules`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni' } });
    t.teardown(lab.remove);
    await t.test('those that were there before us', async (t) => {
      await iptables(lab, backend, `-A FORWARD -d ${imds.ipv4} -i eni+ -j DROP`);
      const theirs = await rules(lab);
      for (const layout of ['documented', 'chain', 'documented']) t.match(await apply(lab, ['--backend', backend, '--layout', layout]), { exitCode: 0 });
      await iptables(lab, backend, `-C FORWARD -d ${imds.ipv4} -i eni+ -j DROP`);
      t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
      t.equal(await rules(lab), theirs);
      await iptables(lab, backend, `-D FORWARD -d ${imds.ipv4} -i eni+ -j DROP`);
    });
    await t.test('those that came while ours were in the chain layout', async (t) => {
      t.match(await apply(lab, ['--backend', backend, '--layout', 'chain']), { exitCode: 0 });
      await iptables(lab, backend, `-A FORWARD -d ${imds.ipv4} -i eni+ -j DROP`);
      t.same((await apply(lab, ['--backend', backend, '--layout', 'chain'])).value.steps, []);
      t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
      t.equal(await rules(lab), `${backend} ipv4 *filter -A FORWARD -d ${imds.ipv4} -i eni+ -j DROP`);
    });
  });

}

t.test('--action reject refuses at once', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  const reject = ['--action', 'reject'];
  const live = await lab.openLive(lab.pods.ordinary);
  t.match(await apply(lab, reject), { exitCode: 0, value: { answer: 'blocked', problems: [] } });
  t.match(await must(lab, 'nft', 'list', 'tables'), OTHER_TABLE);
  // A branch-ENI pod in strict mode is behind a route that only forwarded packets find: the node's own reset has none.
  const silent = { 'branch 4 v1': 'timeout', 'branch 4 v2': 'timeout' } as const;
  t.same(await fates(lab, ['node', ...pods], 2000), { ...expected(pods, 'refused'), ...silent });
  t.match(await lab.request(lab.pods.six, { family: 6 }), { fate: 'refused', code: 'ECONNREFUSED' }, 'by a reset, not by a router');
  t.match(await live.request({ timeoutMs: 5000 }), { fate: 'refused' }, 'a kept-alive connection is reset');

  const before = await world(lab);
  t.same((await apply(lab, reject)).value.steps, [], 'a second time: nothing to write');
  t.equal(await world(lab), before);

  await t.test('a table of ours that somebody changed is made anew', async (t) => {
    await nft(lab, 'insert rule inet imds-guard forward iifname "eni*" accept\n');
    t.match(await apply(lab, reject), { exitCode: 0, value: { steps: [{ do: 'nft' }] } });
    t.notMatch(await must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard'), 'eni*');
    await nft(lab, 'delete table inet imds-guard\n');
    t.ok(await dies(lab, lab.pods.ordinary), 'without it, the other layers hold');
    t.match(await apply(lab, reject), { exitCode: 0, value: { steps: [{ do: 'nft' }] } });
    t.match(await lab.request(lab.pods.ordinary), { fate: 'refused', code: 'ECONNREFUSED' });
    // The same number of rules with the same verdicts, and another address.
    await nft(lab, 'flush chain inet imds-guard forward\n' + ['1', '2', '3', '4'].map((last) => `add rule inet imds-guard forward ip daddr 192.0.2.${last} counter drop\n`).join(''));
    t.match(await apply(lab, reject), { exitCode: 0, value: { steps: [{ do: 'nft' }] } });
    t.match(await lab.request(lab.pods.ordinary), { fate: 'refused', code: 'ECONNREFUSED' });
  });

  await t.test('with action drop again the table drops, with guard none it goes, and with remove', async (t) => {
    const dropping = await apply(lab);
    t.match(dropping, { exitCode: 0, value: { answer: 'blocked' } });
    t.same(dropping.value.steps, [{ do: 'nft', script: `delete table inet imds-guard\n${guardScript}`, because: ['table inet imds-guard is not as it should be'] }]);
    t.notMatch(await must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard'), 'reject');
    t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
    t.match(await apply(lab, ['--guard', 'none']), { exitCode: 0, value: { answer: 'blocked', steps: [{ do: 'nft', script: 'delete table inet imds-guard\n' }] } });
    t.notMatch(await must(lab, 'nft', 'list', 'tables'), OTHER_TABLE);
    t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
    t.match(await apply(lab, reject), { exitCode: 0 });
    t.match(await must(lab, 'nft', 'list', 'tables'), OTHER_TABLE);
    t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
    t.notMatch(await must(lab, 'nft', 'list', 'tables'), OTHER_TABLE);
    t.equal(await rules(lab), '');
  });
});

t.test('remove finds what was written with other settings', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { exitCode: 0 });
  t.match(await remove(lab, ['--interface', 'azv+', '--branch-interface', 'azvlan+']), { exitCode: 0, value: { left: [] } });
  t.equal(await rules(lab), '');
  t.match(await apply(lab, ['--layout', 'chain', '--action', 'reject']), { exitCode: 0 });
  await iptables(lab, 'nft', '-A OUTPUT -g IMDS-GUARD');
  t.match(await remove(lab), { exitCode: 0, value: { left: [] } }, 'a goto of somebody else goes, too: nothing can point to a chain that is gone');
  t.equal(await rules(lab), '');
});

t.test('of two equal documented rules, one of them ours, remove takes one', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { exitCode: 0 });
  await iptables(lab, 'nft', `-I FORWARD 1 -i eni+ -d ${imds.ipv4} -j DROP`);
  t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
  t.equal(await rules(lab), `nft ipv4 *filter -A FORWARD -d ${imds.ipv4} -i eni+ -j DROP`);
});

t.test('reject where nft is missing: a clear error, and nothing changed', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  const before = await world(lab);
  const ran = await guard(lab, ['apply', '--action', 'reject'], without('nft'));
  t.match(ran, { exitCode: 64, stdout: '', stderr: /^imds-guard: --action reject needs nft.*install nftables.*--action drop\n$/ });
  t.equal(await world(lab), before);
});

/** Where a rule of ours stands among the others of ours is no promise. */
function sorted(text: string): string {
  return text.split('\n').sort().join('\n');
}
