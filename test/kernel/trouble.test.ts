// Things that are missing, forbidden, held or broken: each has its own words, and none of them ends in a rule half written.
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import t from 'tap';
import { type Lab, makeLab } from '../lab/lab.ts';
import { answersOf, apply, backends, check, dies, expected, families, fates, guard, guardScript, imds, iptables, must, nft, passes, programOf, remove, restoresOf, rules, saved, scriptsOf, targetOf, world } from './guard.ts';
import { among, nobody, rootByName, without } from './surroundings.ts';

t.setTimeout(150_000);

t.test('programs that are missing', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  const clean = await world(lab);

  await t.test('all of iptables: unknown, told so, and nothing changed', async (t) => {
    const bare = without('iptables*', 'ip6tables*');
    const checked = await check(lab, [], bare);
    t.match(checked, { exitCode: 2, value: { answer: 'unknown', reason: 'NotInstalled' } });
    t.match(checked.stdout, /iptables-nft-save is not installed: the package is/);
    const applied = await apply(lab, [], bare);
    t.match(applied, { exitCode: 2, value: { reason: 'NotInstalled' } });
    t.match(applied.value, { steps: [], problems: [/nothing was written for ipv4/, /nothing was written for ipv6/] });
    t.match(JSON.stringify(applied.value.targets), /is not installed/);
    t.match(await remove(lab, [], bare), { exitCode: 2, value: { problems: [/is not installed/, /is not installed/] } });
    t.equal(await world(lab), clean);
  });

  t.match(await apply(lab, ['--guard', 'none']), { exitCode: 0 });

  await t.test('nft alone: blocked where that is proved all the same, and what was not read is said', async (t) => {
    const checked = await check(lab, [], without('nft'));
    t.match(checked, { exitCode: 0, value: { answer: 'blocked' } });
    t.match(checked.value.assumed.join('\n'), /native nftables tables were not read: nft is not installed/);
    const applied = await apply(lab, [], without('nft'));
    t.match(applied, { exitCode: 0, value: { steps: [], problems: [] } });
    t.match(applied.value.assumed.join('\n'), /table inet imds-guard was not written: it takes nft/);
    t.notMatch((await apply(lab, ['--guard', 'none'], without('nft'))).value.assumed.join('\n'), /table inet imds-guard/, 'nobody misses what nobody wants');
  });

  await t.test('nft, and the proof hangs on what it would show', async (t) => {
    await must(lab, 'iptables-nft', '-t', 'mangle', '-F');
    await must(lab, 'iptables-nft', '-F');
    await nft(lab, 'table inet site {\n chain f {\n type filter hook forward priority 0\n ip daddr 169.254.169.254 drop\n }\n}\n');
    t.ok(await dies(lab, lab.pods.ordinary));
    t.equal(targetOf((await check(lab)).value, 'eni+ ipv4').answer, 'blocked');
    const target = targetOf((await check(lab, [], without('nft'))).value, 'eni+ ipv4');
    t.equal(target.answer, 'unknown', 'neither blocked nor, though no rule it can see stops the packet, open');
    await nft(lab, 'delete table inet site\n');
  });

  await t.test('ip and tc: the rules are judged, and what was not looked at is said', async (t) => {
    t.match(await apply(lab), { exitCode: 0 });
    const checked = await check(lab, [], without('ip', 'tc'));
    t.match(checked, { exitCode: 0, value: { answer: 'blocked' } });
    t.match(checked.value.assumed.join('\n'), /ip is not installed/);
    const noTc = await check(lab, [], without('tc'));
    t.match(noTc.value.assumed.join('\n'), /tc is not installed/);
  });

  await t.test('the iptables of the backend that nobody uses', async (t) => {
    t.match(await check(lab, [], without('*-legacy*')), { exitCode: 0, value: { answer: 'blocked' } });
  });
});

t.test('a node that has iptables-legacy only, under the plain names (Amazon Linux 2)', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6' } });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  // Plain names for legacy, then the others go.
  const old = among(`
mkdir -p /run/kept /run/old; mount --bind /usr/sbin /run/kept
ln -sf /run/kept/* /run/old/; rm -f /run/old/iptables* /run/old/ip6tables* /run/old/xtables* /run/old/nft
for one in iptables ip6tables; do for verb in '' -save -restore; do ln -s /run/kept/xtables-legacy-multi /run/old/$one$verb; done; done
mount --bind /run/old /usr/sbin`);
  const applied = await apply(lab, [], old);
  t.match(applied, { exitCode: 0, value: { answer: 'blocked', problems: [] } });
  t.same(new Set(applied.value.steps.map((step) => step.do === 'restore' && step.backend)), new Set(['legacy']));
  t.match(applied.value.assumed.join('\n'), /nft is not installed/);
  t.match(applied.value.assumed.join('\n'), /table inet imds-guard was not written: it takes nft/);
  t.match(await saved(lab, 'legacy'), '169.254.169.254');
  t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
  t.same((await apply(lab, [], old)).value.steps, []);
  t.match(await remove(lab, [], old), { exitCode: 0, value: { left: [] } });
  t.equal(await rules(lab), '');
});

t.test('without rights', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  t.match(await apply(lab), { exitCode: 0 });
  const before = await world(lab);
  const somebody = { 'an ordinary user': nobody, 'root of another user namespace': rootByName };
  for (const [name, who] of Object.entries(somebody)) {
    await t.test(name, async (t) => {
      if ((await lab.exec(lab.node, who[0] ?? '', [...who.slice(1), 'true'])).exitCode !== 0) return void t.comment('this machine does not let us become that');
      t.match(await check(lab, [], who), { exitCode: 2, value: { answer: 'unknown', reason: 'NotPermitted' } });
      t.match(await guard(lab, ['check'], who), { exitCode: 2, stdout: /not permitted\. Run as root with CAP_NET_ADMIN/, stderr: '' });
      for (const args of [['--layout', 'chain'], ['--backend', 'legacy'], ['--action', 'reject']]) {
        const applied = await guard(lab, ['apply', ...args], who);
        t.equal(applied.exitCode, 2, `apply ${args.join(' ')}`);
        t.match(applied.stdout, /CAP_NET_ADMIN/, args.join(' '));
        t.notMatch(applied.stderr, 'install nftables', 'it is installed');
      }
      t.match(await remove(lab, [], who), { exitCode: 2, value: { problems: [/CAP_NET_ADMIN/, /CAP_NET_ADMIN/] } });
      t.equal(await world(lab), before);
    });
  }
});

t.test('the xtables lock', async (t) => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  const legacy = ['--backend', 'legacy', '--guard', 'none'];

  await t.test('held for ever: busy, nothing changed, the exit is by what is there', async (t) => {
    await must(lab, 'touch', '/run/xtables.lock');
    const release = await holdLock(lab);
    const before = await world(lab);
    const applied = await apply(lab, [...legacy, '--lock-wait', '1']);
    t.match(applied, { exitCode: 1, value: { answer: 'open' } });
    t.equal(applied.value.problems.length, 4);
    for (const problem of applied.value.problems) t.match(problem, /another program holds the xtables lock\. Nothing was changed; try again/);
    t.match(await guard(lab, ['apply', ...legacy, '--lock-wait', '0']), { exitCode: 1, stdout: /^failed: .*xtables lock/m }, '0 is no eternity');
    t.equal(await world(lab), before);
    t.match(await check(lab), { exitCode: 1 }, 'check needs no lock');
    t.match(await apply(lab, ['--backend', 'nft', '--guard', 'none']), { exitCode: 0 }, 'nor does the other backend');
    t.match(await apply(lab, [...legacy, '--lock-wait', '0']), { exitCode: 0, value: { answer: 'blocked', problems: [/lock/, /lock/, /lock/, /lock/] } }, 'blocked by what stands there: exit 0, and the problem is told');
    t.match(await remove(lab), { exitCode: 0 });
    const guarded = await apply(lab, ['--backend', 'legacy', '--lock-wait', '0']);
    t.match(guarded, { exitCode: 0, value: { answer: 'blocked', problems: [/lock/, /lock/, /lock/, /lock/] } }, 'nor does the guard table');
    t.same(scriptsOf(guarded.value.steps), [guardScript]);
    t.ok(await dies(lab, lab.pods.ordinary));
    await release();
    t.match(await remove(lab), { exitCode: 0 });
  });

  await t.test('held for a while: apply waits, and then does it', async (t) => {
    const release = await holdLock(lab);
    const applying = apply(lab, [...legacy, '--lock-wait', '20']);
    await somebodyWaits();
    t.ok(await passes(lab, lab.pods.ordinary), 'nothing is written yet');
    await release();
    t.match(await applying, { exitCode: 0, value: { answer: 'blocked', problems: [] } });
    t.ok(await dies(lab, lab.pods.ordinary));
  });
});

/** As another program holds it. */
async function holdLock(lab: Lab): Promise<() => Promise<void>> {
  const holder = lab.start(lab.node, 'sh', ['-c', 'exec 9>/run/xtables.lock; flock 9; echo held; exec tail -f /dev/null']);
  await once(holder.stdout, 'data');
  return async () => {
    holder.kill('SIGTERM');
    await holder;
  };
}

/** `1: -> FLOCK  ADVISORY  WRITE 4711 00:1a:99 0 EOF`: the kernel's list of those who wait. */
async function somebodyWaits(): Promise<void> {
  const { ino } = statSync('/run/xtables.lock');
  const waiting = new RegExp(`-> FLOCK .*:${ino} `);
  while (!waiting.test(readFileSync('/proc/locks', 'utf8'))) await new Promise(setImmediate);
}

for (const family of families) {
  await t.test(`${family}: a table of iptables-nft that holds what only nft can say`, async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6' } });
    t.teardown(lab.remove);
    const pod = family === 'ipv4' ? lab.pods.ordinary : lab.pods.six;
    const over = { family: family === 'ipv4' ? 4 : 6 } as const;
    const ip = family === 'ipv4' ? 'ip' : 'ip6';
    const name = `eni+ ${family}`;
    for (const table of ['filter', 'mangle']) await iptables(lab, 'nft', `-t ${table} -A FORWARD -i eni+ -d ${imds[family]} -j DROP`, family);
    const operators = await rules(lab);
    for (const table of ['filter', 'mangle']) await nft(lab, `add rule ${ip} ${table} FORWARD numgen random mod 3 0 counter\n`);
    t.match(await must(lab, `${programOf(family, 'nft')}-save`), /Table `filter' is incompatible/);
    const target = targetOf((await check(lab)).value, name);
    t.match(target, { answer: 'blocked', proof: [{ table: 'mangle', chain: 'FORWARD', number: 1 }] }, 'judged through nft');
    t.ok(await dies(lab, pod, over));
    const without1 = targetOf((await check(lab, [], without('nft'))).value, name);
    t.equal(without1.answer, 'unknown');
    const unseen = await apply(lab, ['--backend', 'nft'], without('nft'));
    t.match(unseen, { exitCode: 2, value: { problems: [/holds rules that only nft can show/, /holds rules that only nft can show/] } }, 'what cannot be seen is not written');
    t.match(await remove(lab, [], without('nft')), { exitCode: 2, value: { problems: [/only nft can show/, /only nft can show/] } });
    t.notMatch(await must(lab, 'nft', 'list', 'table', ip, 'mangle'), 'imds-guard');

    const byRules = ['--guard', 'none'];
    const applied = await apply(lab, byRules);
    t.equal(targetOf(applied.value, name).answer, 'blocked');
    const before = await world(lab);
    t.same((await apply(lab, byRules)).value.steps, []);
    t.equal(await world(lab), before, 'a second apply leaves the same bytes: what is there is seen by nft');

    for (const table of ['filter', 'mangle']) await nft(lab, `insert rule ${ip} ${table} FORWARD iifname "eni*" accept\n`);
    t.equal(targetOf((await check(lab)).value, name).answer, 'open');
    t.ok(await passes(lab, pod, over));
    t.equal(targetOf((await apply(lab, byRules)).value, name).answer, 'blocked', 'positions are taken here, too');
    t.ok(await dies(lab, pod, over));

    // iptables cannot delete what stands below a rule that it cannot read. It has to be told, and nothing may be lost by it.
    const stuck = await remove(lab);
    t.match(stuck, { exitCode: 2, value: { problems: [/the chain holds nftables rules that iptables cannot read/] } });
    t.ok(stuck.value.left.length > 0);
    for (const table of ['filter', 'mangle']) {
      const listed = await must(lab, 'nft', '-a', 'list', 'chain', ip, table, 'FORWARD');
      const foreign = listed.split('\n').filter((line) => /numgen|accept # handle/.test(line));
      for (const line of foreign) await must(lab, 'nft', 'delete', 'rule', ip, table, 'FORWARD', 'handle', line.replace(/^.*# handle /, ''));
    }
    t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
    t.equal(await rules(lab), operators, 'what the operator wrote is still there, and nothing else');
  });
}

t.test('IPv6', async (t) => {
  await t.test('switched off by sysctl: still written and judged, for it can be switched on', async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni' } });
    t.teardown(lab.remove);
    await must(lab, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6');
    const applied = await apply(lab);
    t.match(applied, { exitCode: 0, value: { answer: 'blocked' } });
    t.equal(answersOf(applied.value)['eni+ ipv6'], 'blocked');
    t.match(await remove(lab), { exitCode: 0 });
  });
  await t.test('not in the kernel: nothing of it is judged or written, and that is said', async (t) => {
    const lab = await makeLab({ pods: { ordinary: 'eni' } });
    t.teardown(lab.remove);
    // A kernel that booted with ipv6.disable=1 has no if_inet6. The program's own /proc/net is laid over; that of others is not.
    const none = among('mkdir -p /run/net; for one in route ip_tables_names; do cat /proc/net/$one >/run/net/$one 2>/dev/null || :; done; mount --bind /run/net /proc/$$/net');
    // What is laid over does not grow: so the legacy tables are made before.
    for (const table of ['filter', 'mangle']) await iptables(lab, 'legacy', `-t ${table} -S`);
    for (const backend of backends) {
      const applied = await apply(lab, ['--backend', backend], none);
      t.match(applied, { exitCode: 0, value: { answer: 'blocked', problems: [] } });
      t.same(new Set(restoresOf(applied.value.steps).map((step) => step.family)), new Set(['ipv4']));
      t.same(scriptsOf(applied.value.steps), [guardScript], 'a table inet holds the words of both, whatever the kernel has');
      t.same(applied.value.targets.filter((target) => target.family === 'ipv6'), []);
      t.match(applied.value.assumed.join('\n'), /this kernel has no IPv6/);
      t.match(await remove(lab), { exitCode: 0 });
    }
  });
});
