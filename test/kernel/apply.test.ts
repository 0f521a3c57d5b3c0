// `apply` against the kernel: what it promises, asked of real packets, for both backends.
import t from 'tap';
import type { Step } from '../../agent/core/plan.ts';
import { makeLab } from '../lab/lab.ts';
import { answersOf, apply, backends, check, dies, expected, families, fates, foreign, guard, guardScript, imds, iptables, must, passes, programOf, remove, restore, restoresOf, rules, saved, scriptsOf, world } from './guard.ts';

const WITH_TABLE = { how: 'with the guard table', args: [], scripts: [guardScript] } as const;
/** What the two layers of iptables do has to be asked where nothing else stops a packet. */
const BY_IPTABLES_ALONE = { how: 'by iptables alone', args: ['--guard', 'none'], scripts: [] } as const;

for (const { backend, guarding } of backends.flatMap((backend) => [WITH_TABLE, BY_IPTABLES_ALONE].map((guarding) => ({ backend, guarding })))) {
  await t.test(`${backend}, ${guarding.how}: every kind of pod is blocked, the node is not, and it stays so`, async (t) => {
    const args = ['--backend', backend, ...guarding.args];
    const lab = await makeLab({
      pods: { ordinary: 'eni', branch: 'vlan', six: 'v6', prefixed: { kind: 'eni', prefix: 'azv' }, strange: { kind: 'eni', prefix: 'pod' } },
      hopLimit: 2,
    });
    t.teardown(lab.remove);
    const pods = Object.values(lab.pods);
    t.same(await fates(lab, ['node', ...pods], 5000), expected(pods, 'reached'), 'before: everybody reaches IMDS');
    const asked = [...pods.map((pod) => [pod, 4] as const), [lab.pods.six, 6] as const];
    const lives = await Promise.all(asked.map(([pod, family]) => lab.openLive(pod, { family })));
    await lab.seen();

    const applied = await apply(lab, args);
    t.match(applied, { exitCode: 0, stderr: '', value: { answer: 'blocked', reason: 'EveryPacketDropped', dryRun: false, problems: [], left: [] } });
    t.same(restoresOf(applied.value.steps), [{ family: 'ipv4', backend }, { family: 'ipv4', backend }, { family: 'ipv6', backend }, { family: 'ipv6', backend }]);
    t.same(scriptsOf(applied.value.steps), guarding.scripts);
    for (const name of ['eni+', 'vlan+', 'veth+', 'azv+', lab.pods.strange.hostInterface]) {
      for (const family of families) t.equal(answersOf(applied.value)[`${name} ${family}`], 'blocked', `${name} ${family}`);
    }

    const [after, ...onLive] = await Promise.all([fates(lab, ['node', ...pods]), ...lives.map((live) => live.request({ timeoutMs: 500 }))]);
    t.same(after, expected(pods, 'timeout'));
    for (const answer of onLive) t.same(answer, { fate: 'timeout', during: 'answer' }, 'a kept-alive connection dies');
    const seen = await lab.seen();
    t.same(new Set(seen.map(({ from }) => from)), new Set(['10.0.0.10']), 'IMDS has seen nobody but the node');

    await t.test('what auditors look for is literally there', async (t) => {
      for (const family of families) {
        await iptables(lab, backend, `-C FORWARD -i eni+ -d ${imds[family]} -j DROP`, family);
        await iptables(lab, backend, `-t mangle -C POSTROUTING -o vlan+ -d ${imds[family]} -j DROP`, family);
        t.match(await saved(lab, backend, family, 'filter'), new RegExp(`^-A FORWARD -d ${imds[family]} -i eni\\+ -j DROP$`, 'm'));
      }
    });

    await t.test('a second apply writes nothing, and says so', async (t) => {
      const before = await world(lab);
      const again = await apply(lab, args);
      t.match(again, { exitCode: 0, value: { steps: [], problems: [], answer: 'blocked' } });
      const told = await guard(lab, ['apply', ...args]);
      t.match(told, { exitCode: 0, stdout: /^nothing to write: every rule is in place$/m });
      t.equal(await world(lab), before);
    });

    await t.test('the rules survive iptables-save | iptables-restore', async (t) => {
      const before = await saved(lab, backend);
      for (const family of families) {
        const file = await must(lab, `${programOf(family, backend)}-save`);
        await must(lab, programOf(family, backend), '-F');
        await must(lab, programOf(family, backend), '-t', 'mangle', '-F');
        const { exitCode } = await lab.exec(lab.node, `${programOf(family, backend)}-restore`, [], { stdin: file });
        t.equal(exitCode, 0);
      }
      t.equal(await saved(lab, backend), before);
      t.match(await apply(lab, args), { exitCode: 0, value: { steps: [], answer: 'blocked' } });
      t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
    });

    await t.test('remove lets everybody pass again', async (t) => {
      t.match(await remove(lab), { exitCode: 0, value: { dryRun: false, problems: [], left: [] } });
      t.equal(await rules(lab), '');
      t.same(await fates(lab, ['node', ...pods], 5000), expected(pods, 'reached'));
      t.match(await check(lab), { exitCode: 1, value: { answer: 'open' } });
      t.match(await guard(lab, ['remove']), { exitCode: 0, stdout: /nothing of imds-guard is left/ });
    });
  });
}

for (const backend of backends) {
  await t.test(`${backend}: among foreign rules of many kinds`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
    t.teardown(lab.remove);
    for (const family of families) for (const table of Object.values(foreign(family))) await restore(lab, backend, table, family);
    await must(lab, 'nft', 'add', 'table', 'inet', 'somebody');
    const documented = `FORWARD -d ${imds.ipv4} -i eni+ -j DROP`;
    const [before, beforeWorld] = [await rules(lab), await world(lab)];
    t.match(before, 'a \\"quoted\\" \\\\ it');

    await t.test('--dry-run changes nothing, and prints what would be sent', async (t) => {
      const dry = await apply(lab, ['--backend', backend, '--dry-run']);
      t.match(dry, { exitCode: 1, value: { dryRun: true, answer: 'open', problems: [] } });
      const text = await guard(lab, ['apply', '--backend', backend, '--dry-run']);
      t.equal(text.exitCode, 1);
      t.equal(await world(lab), beforeWorld);
      const applied = await apply(lab, ['--backend', backend]);
      t.equal(applied.exitCode, 0);
      t.same(applied.value.steps, dry.value.steps.map(sent), 'what was announced is what was sent');
      for (const step of dry.value.steps) {
        const sent = step.do === 'restore' ? step.payload : step.script;
        t.ok(text.stdout.includes(`\n${sent.replaceAll(/^(?=.)/gm, '    ')}`), `word for word: ${sent}`);
      }
      t.same(scriptsOf(dry.value.steps), [guardScript]);
      t.same(dry.value.left, dry.value.steps, 'all of it is still to be done');
      t.same(applied.value.left, []);
    });

    await t.test('everybody is blocked', async (t) => {
      t.same(await fates(lab, ['node', ...Object.values(lab.pods)]), expected(Object.values(lab.pods), 'timeout'));
    });

    await t.test('remove --dry-run changes nothing; remove leaves the rest byte for byte', async (t) => {
      const applied = await world(lab);
      const dry = await remove(lab, ['--dry-run']);
      t.match(dry, { exitCode: 0, value: { dryRun: true } });
      t.equal(await world(lab), applied);
      const removed = await remove(lab);
      t.match(removed, { exitCode: 0, value: { problems: [], left: [] } });
      t.same(removed.value.steps, dry.value.steps);
      t.equal(await rules(lab), before);
      t.same((await remove(lab)).value.steps, [], 'a second remove has nothing to do');
    });

    await t.test("an operator's own documented rule stays when ours go", async (t) => {
      await iptables(lab, backend, `-I ${documented}`);
      await iptables(lab, backend, `-t mangle -A POSTROUTING -d ${imds.ipv4} -o vlan+ -j DROP`);
      const theirs = await rules(lab);
      t.match(await apply(lab, ['--backend', backend]), { exitCode: 0 });
      t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
      t.equal(await rules(lab), theirs);

      t.match(await apply(lab, ['--backend', backend, '--layout', 'chain']), { exitCode: 0 });
      await iptables(lab, backend, `-C ${documented}`);
      t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
      t.equal(await rules(lab), theirs, 'and after the other layout, too');
      t.ok(await dies(lab, lab.pods.ordinary), 'it still works for its pods');
      t.ok(await passes(lab, lab.pods.six), 'and for no others, as before');
    });

    await t.test("an operator's rule stays though ours took the top above it", async (t) => {
      const theirs = await rules(lab);
      const args = ['--backend', backend, '--guard', 'none'];
      t.match(await apply(lab, args), { exitCode: 0 });
      for (const table of ['filter', 'mangle']) await iptables(lab, backend, `-t ${table} -I FORWARD 1 -i eni+ -m comment --comment rival -j ACCEPT`);
      const fought = await apply(lab, args);
      t.match(fought, { exitCode: 0, value: { answer: 'blocked' } });
      t.ok(fought.value.steps.length > 0);
      t.ok(await dies(lab, lab.pods.ordinary));
      for (const table of ['filter', 'mangle']) await iptables(lab, backend, `-t ${table} -D FORWARD -i eni+ -m comment --comment rival -j ACCEPT`);
      t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
      t.equal(await rules(lab), theirs);
    });
  });
}

t.test('auto writes where the kubelet does, a given backend is followed against it', async (t) => {
  for (const hint of ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY']) {
    for (const backend of backends) {
      const other = backend === 'nft' ? 'legacy' : 'nft';
      const lab = await makeLab({ pods: { ordinary: 'eni' } });
      t.teardown(lab.remove);
      await iptables(lab, backend, `-t mangle -N ${hint}`);
      const dry = await apply(lab, ['--dry-run']);
      t.same(new Set(restoresOf(dry.value.steps).map((step) => step.backend)), new Set([backend]), `${hint} in ${backend}`);
      t.same(scriptsOf(dry.value.steps), [guardScript]);
      if (hint === 'KUBE-KUBELET-CANARY') continue;
      t.match(await apply(lab, ['--backend', other, '--guard', 'none']), { exitCode: 0 });
      await iptables(lab, other, `-C FORWARD -i eni+ -d ${imds.ipv4} -j DROP`);
      t.notMatch(await saved(lab, backend), '169.254.169.254', `nothing of it in ${backend}`);
      t.ok(await dies(lab, lab.pods.ordinary));
      t.match(await remove(lab), { exitCode: 0, value: { left: [] } }, 'remove finds them wherever they are');
      t.notMatch(await saved(lab, other), '169.254.169.254');
    }
  }
});

/** What is to run where a step is refused is announced, and not told of one that went well. */
function sent(step: Step): Step {
  return step.do === 'nft' ? { do: step.do, script: step.script, because: step.because } : step;
}
