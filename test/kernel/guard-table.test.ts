// The table `inet imds-guard` against the kernel: what it does when nothing else is there, what fills it, and who owns it.
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { type Lab, type Pod, makeLab } from '../lab/lab.ts';
import { answersOf, apply, check, dies, expected, families, fates, foreign, guard, guardScript, guardTable, must, nft, passes, programOf, remove, restore, rules, world } from './guard.ts';
import { knock, mayMakeUpAddresses } from './knocks.ts';

t.setTimeout(120_000);

const table = 'inet imds-guard';
const makeNode = async (t: Test): Promise<Lab<'ordinary' | 'branch' | 'six'>> => {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(lab.remove);
  return lab;
};
/** As `imds-guard rules` prints it: somebody fed it to nft by hand. */
async function writeTable(lab: Lab, args: readonly string[] = []): Promise<void> {
  const { stdout } = await guard(lab, ['rules', '--output', 'json', ...args]);
  await nft(lab, (JSON.parse(stdout) as { nft: string }).nft);
}

t.test('the table alone: every packet dies by it, the node is not touched, and that is proved', async (t) => {
  const lab = await makeNode(t);
  const pods = Object.values(lab.pods);
  for (const family of families) for (const one of Object.values(foreign(family))) await restore(lab, 'nft', one, family);
  await nft(lab, 'table inet somebody {\n set mine {\n type ipv4_addr\n elements = { 192.0.2.1 }\n }\n chain f {\n type filter hook forward priority -200\n ip daddr @mine counter drop\n }\n}\n');
  const before = await rules(lab);
  const lives = await Promise.all([[lab.pods.ordinary, 4], [lab.pods.branch, 4], [lab.pods.six, 4], [lab.pods.six, 6]].map(([pod, family]) => lab.openLive(pod as Pod, { family: family as 4 | 6 })));
  await lab.seen();

  await writeTable(lab);
  t.equal(await rules(lab), `${before}\n${await guardTable(lab)}`, 'nothing else is lost');
  t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
  for (const live of lives) t.same(await live.request({ timeoutMs: 500 }), { fate: 'timeout', during: 'answer' }, 'a kept-alive connection dies');
  t.same(new Set((await lab.seen()).map(({ from }) => from)), new Set(['10.0.0.10']), 'IMDS has seen nobody but the node');

  const { exitCode, value } = await check(lab);
  t.match({ exitCode, value }, { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
  for (const target of value.targets) {
    t.same(target.states, { NEW: 'blocked', ESTABLISHED: 'blocked', RELATED: 'blocked', INVALID: 'blocked', UNTRACKED: 'blocked' }, `${target.name}: counting leaves no doubt`);
    t.match(target.answer === 'blocked' && target.proof, [{ backend: 'nft-native', family: 'inet', table: 'imds-guard', chain: 'forward', number: target.family === 'ipv4' ? 1 : 2 }]);
    t.equal(target.answer === 'blocked' && target.proof.length, 1, target.name);
  }
  t.same(value.path?.filter((chain) => chain.table === 'imds-guard').map(({ chain }) => chain).sort(), ['asked', 'begun', 'carried', 'count', 'forward', 'probed']);
  t.ok(value.path?.every(({ chain }) => !['cali-FORWARD', 'KUBE-FORWARD', 'DOCKER-USER'].includes(chain)), 'no packet comes as far as the chains below');
  for (const service of value.collateral) t.equal(service.answer, 'open', service.what);
});

t.test('it holds when every rule of iptables is flushed, and when rivals accept above all of them', async (t) => {
  const lab = await makeNode(t);
  const pods = Object.values(lab.pods);
  t.match(await apply(lab), { exitCode: 0, value: { answer: 'blocked' } });
  for (const family of families) for (const one of ['filter', 'mangle']) await restore(lab, 'nft', [`*${one}`, '-I FORWARD 1 -i eni+ -m comment --comment rival -j ACCEPT', 'COMMIT'], family);
  const before = await world(lab);
  t.match(await apply(lab), { exitCode: 0, value: { answer: 'blocked', steps: [] } }, 'no position is fought for that no packet comes to');
  t.equal(await world(lab), before);
  t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));

  for (const family of families) for (const one of ['filter', 'mangle']) await must(lab, programOf(family, 'nft'), '-t', one, '-F');
  t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
  t.match(await check(lab), { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
  const again = await apply(lab);
  t.match(again, { exitCode: 0, value: { answer: 'blocked' } });
  t.ok(again.value.steps.length === 4 && again.value.steps.every((step) => step.do === 'restore'), 'the other layers come back all the same');
});

t.test('a table of ours that drops no more is written anew, in one step', async (t) => {
  const lab = await makeNode(t);
  t.match(await apply(lab), { exitCode: 0 });
  const whole = await guardTable(lab);
  const damages = {
    'an ACCEPT on top': `insert rule ${table} forward iifname "eni*" accept`,
    'a rule less': `flush chain ${table} forward`,
    'a set less': `flush chain ${table} probed\ndelete set ${table} probes`,
    'a chain more': `add chain ${table} more { type filter hook prerouting priority -400; policy accept; }`,
    'another policy': `add chain ${table} forward { policy drop; }`,
    'dormant': `add table ${table} { flags dormant; }`,
  };
  for (const [what, script] of Object.entries(damages)) {
    await nft(lab, `${script}\n`);
    const mended = await apply(lab);
    t.same(mended.value.steps, [{ do: 'nft', script: `delete table ${table}\n${guardScript}`, because: [`table ${table} is not as it should be`] }], what);
    t.match(mended, { exitCode: 0, value: { answer: 'blocked', problems: [] } }, what);
    t.equal(await guardTable(lab), whole, what);
  }
  await nft(lab, `delete table ${table}\n`);
  t.match(await apply(lab), { exitCode: 0, value: { steps: [{ do: 'nft', script: guardScript, because: [`table ${table} is missing`] }] } });
});

t.test('--guard watched leaves the table to the daemon, whatever is there; remove takes it all the same', async (t) => {
  const lab = await makeNode(t);
  const watched = ['--guard', 'watched'];
  t.match(await apply(lab, watched), { exitCode: 0, value: { answer: 'blocked' } });
  t.notMatch(await must(lab, 'nft', 'list', 'tables'), 'imds-guard', 'none is written');
  await nft(lab, `add table ${table}\nadd chain ${table} mine { type filter hook forward priority 5; }\n`);
  const before = await world(lab);
  t.same((await apply(lab, watched)).value.steps, []);
  t.equal(await world(lab), before, 'none is taken away');
  t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
  t.equal(await rules(lab), '');
});

t.test('5,000 made-up source addresses: the sets stay bounded, and a full set opens nothing', async (t) => {
  const lab = await makeNode(t);
  const { six, ordinary } = lab.pods;
  await mayMakeUpAddresses(lab, six);
  await lab.exec(lab.imds, 'nft', ['-f', '-'], { stdin: 'table inet seen {\n chain p {\n type filter hook prerouting priority raw\n ip saddr 10.99.0.0/16 counter\n ip6 saddr 2001:db8:99::/48 counter\n }\n}\n' });
  const arrived = async (): Promise<number[]> => [...(await lab.exec(lab.imds, 'nft', ['list', 'table', 'inet', 'seen'])).stdout.matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));
  const knockOnBoth = async (count: number): Promise<void> => {
    for (const family of families) await knock(lab, six, family, count);
  };
  await knockOnBoth(20);
  t.same(await arrived(), [20, 20], 'nothing but the table would keep them from IMDS');

  await writeTable(lab);
  await knockOnBoth(5000);
  t.same(await arrived(), [20, 20], 'and with it none gets there');
  for (const name of ['clients4', 'clients6']) t.equal((await must(lab, 'nft', 'list', 'set', ...table.split(' '), name)).match(/ expires /g)?.length, 4096, `${name} is full, and no fuller`);
  const dropped = [...(await must(lab, 'nft', 'list', 'chain', ...table.split(' '), 'forward')).matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));
  t.ok(dropped.length === 2 && dropped.every((packets) => packets >= 5000), 'all of them are counted where they are dropped');

  t.same(await fates(lab, ['node', ...Object.values(lab.pods)]), expected(Object.values(lab.pods), 'timeout'), 'who is not in the set is blocked, too');
  t.match(await check(lab), { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
  const before = await world(lab);
  const applied = await apply(lab);
  t.match(applied, { exitCode: 0, value: { answer: 'blocked' } });
  t.ok(applied.value.steps.every((step) => step.do === 'restore'), 'a full set is no reason to write the table anew');
  t.match(await world(lab), before.slice(before.indexOf(`table ${table}`)));
  t.ok(await dies(lab, ordinary));
});

/** Whether this kernel and this nft know owners of tables (5.12, 1.0.0), and who may lock others out of one. */
const noOwners = await (async () => {
  const lab = await makeLab({ pods: {} });
  try {
    return (await lab.exec(lab.node, 'nft', ['add table inet tried { flags owner; }'])).exitCode === 0 ? false : 'this kernel or this nft does not know owners of tables';
  } finally {
    await lab.remove();
  }
})();
let owners = 0;

/** A living nft that owns the table that it reads: the kernel lets nobody else change it, and takes it away with its owner. */
async function owning(lab: Lab, text: string): Promise<{ end(): Promise<void> }> {
  // It holds both ends of its own input, so that it waits for more until it is killed, and leaves nobody behind.
  const path = `/run/owned-${(owners += 1)}`;
  const owner = lab.start(lab.node, 'sh', ['-ec', 'mkfifo $0; exec 3<>$0; printf "%s" "$1" >$0.nft; printf "include \\"%s.nft\\"\\nlist tables\\n" $0 >&3; exec nft -i <&3', path, text.replace('{\n', '{\n  flags owner\n')]);
  const failed = Promise.race([once(owner.stderr, 'data').then(([data]) => Promise.reject(new Error(String(data)))), owner.then(({ exitCode }) => Promise.reject(new Error(`nft: exit ${exitCode}`)))]);
  failed.catch(() => {});
  for (let said = ''; !/^table inet \S+$/m.test(said); ) said += String(await Promise.race([once(owner.stdout, 'data'), failed]));
  return {
    end: async () => {
      owner.kill('SIGKILL');
      await owner;
    },
  };
}
const drops = 'chain forward {\n    type filter hook forward priority -200\n    ip daddr 169.254.169.254 counter drop\n    ip6 daddr fd00:ec2::254 counter drop\n  }';

t.test('drops in a table that another process owns are a proof, in a dormant one they are none', { skip: noOwners }, async (t) => {
  const lab = await makeNode(t);
  const { ordinary, six } = lab.pods;
  const owner = await owning(lab, `table inet site {\n  ${drops}\n}\n`);
  t.match(await must(lab, 'nft', 'list', 'table', 'inet', 'site'), /flags owner/);
  // What nft before 1.1.0 writes for the flag in its JSON is freed memory: another word each time, or none.
  for (const time of [1, 2, 3]) {
    const { exitCode, value } = await check(lab);
    t.match({ exitCode, value }, { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped', targets: [{ proof: [{ backend: 'nft-native', table: 'site', chain: 'forward', number: 1 }] }] } }, `time ${time}`);
  }
  t.ok(await dies(lab, ordinary));
  t.ok(await dies(lab, six, { family: 6 }));
  await owner.end();
  t.match(await check(lab), { exitCode: 1 }, 'it went with its owner');
  t.ok(await passes(lab, ordinary));

  await nft(lab, `table inet site {\n  flags dormant\n  ${drops}\n}\n`);
  for (const time of [1, 2, 3]) t.match(answersOf((await check(lab)).value), { 'eni+ ipv4': 'open', 'veth+ ipv4': 'open', 'eni+ ipv6': 'open' }, `time ${time}`);
  t.ok(await passes(lab, ordinary));
  t.ok(await passes(lab, six, { family: 6 }));
});

t.test('remove refuses as long as a process owns the table, and apply changes nothing about it', { skip: noOwners }, async (t) => {
  const lab = await makeNode(t);
  t.match(await apply(lab, ['--guard', 'watched']), { exitCode: 0 });
  const owner = await owning(lab, guardScript);
  const before = await world(lab);
  t.match(before, /flags owner/);
  for (const args of [[], ['--dry-run']]) {
    const refused = await remove(lab, args);
    t.match(refused, { exitCode: 2, stderr: '', value: { steps: [], problems: [/^the guard table belongs to a socket of imds-guard watch: .*systemctl disable --now imds-guard.*; nothing was changed$/] } });
    t.equal(refused.value.problems.length, 1);
    t.ok(refused.value.left.length > 0);
    t.match(await guard(lab, ['remove', ...args]), { exitCode: 2, stdout: /^nothing was taken away\nfailed: the guard table belongs to a socket of imds-guard watch: / });
  }
  t.equal(await world(lab), before);

  t.match(await apply(lab), { exitCode: 0, value: { steps: [], problems: [] } }, 'what stands there is what is wanted, whoever owns it');
  t.equal(await world(lab), before);
  for (const args of [['--action', 'reject'], ['--guard', 'none']]) {
    const refused = await apply(lab, args);
    t.match(refused, { exitCode: 0, value: { answer: 'blocked', problems: [/another process owns the table \(flags owner\)/] } }, `${args.join(' ')}: told that it cannot be, and blocked as before`);
    t.same(refused.value.left, refused.value.steps);
    t.equal(await world(lab), before);
  }

  await owner.end();
  t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
  t.equal(await rules(lab), '');
});
