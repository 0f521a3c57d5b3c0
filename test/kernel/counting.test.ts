// Who asks for IMDS, as the guard table counts it: blocked or only observed.
import { mkdirSync, mkdtempSync, rmdirSync, statSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import t, { type Test } from 'tap';
import { type Pod, makeLab } from '../lab/lab.ts';
import { apply, backends, check, dies, expected, families, fates, foreign, guard, guardScript, guardTable, iptables, must, nft, passes, remove, restore, rules, scriptsOf, world } from './guard.ts';
import { counted, read } from './counted.ts';
import { knock, mayMakeUpAddresses } from './knocks.ts';
import { among, nobody } from './surroundings.ts';

t.setTimeout(120_000);

const makeNode = async (t: Test) => {
  const lab = await makeLab({ pods: { one: 'eni', two: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(lab.remove);
  return lab;
};
const observe = ['--mode', 'observe'];
/** `{ eni0a1b2c3d4e5: 2 }` */
const byInterface = (counts: readonly { readonly interface: string; readonly packets: number }[]): Readonly<Record<string, number>> => Object.fromEntries(counts.map((one) => [one.interface, one.packets]));
const of = (pods: Readonly<Record<string, Pod>>, packets: Readonly<Record<string, number>>): Readonly<Record<string, number>> => Object.fromEntries(Object.entries(packets).map(([name, count]) => [pods[name]!.hostInterface, count]));

t.test('observe: nothing is blocked, and a pod with tokens and one without are told apart', async (t) => {
  const lab = await makeNode(t);
  const { one, two, six } = lab.pods;
  const { assumed } = (await check(lab)).value;
  const applied = await apply(lab, observe);
  t.match(applied, { exitCode: 1, value: { mode: 'observe', answer: 'open', problems: [], left: [] } });
  t.match(await guard(lab, ['apply', ...observe]), { exitCode: 1, stdout: /^nothing to write: .*\nmode observe: nothing is blocked, who asks for IMDS is only counted\n/ });
  const judged = await check(lab);
  t.match(judged, { exitCode: 1, value: { answer: 'open' } });
  t.same(judged.value.assumed, assumed, 'counting leaves no doubt');

  t.ok(await passes(lab, one, { version: 1 }));
  t.ok(await passes(lab, one, { version: 1 }));
  t.ok(await passes(lab, two, { version: 2 }));
  t.ok(await passes(lab, six, { version: 2, family: 6 }));
  t.ok(await passes(lab, six, { version: 1, family: 4 }));
  const counts = await counted(lab);
  t.match(counts, { mode: 'observe', seesPayload: true, full: [], probes: [] });
  // Its IPv4 leaves by an interface of its own.
  const egress = six.hostInterface4;
  t.same(byInterface(counts.interfaces), { ...of(lab.pods, { one: 2, two: 2, six: 2 }), [egress]: 1 });
  t.same(byInterface(counts.puts), of(lab.pods, { two: 1, six: 1 }), 'a PUT is a token');
  t.same(byInterface(counts.gets), { ...of(lab.pods, { one: 2, two: 1, six: 1 }), [egress]: 1 });
  for (const { firstMsAgo = -1, lastMsAgo = -1 } of counts.interfaces) t.ok(lastMsAgo >= 0 && lastMsAgo <= firstMsAgo && firstMsAgo < 60_000);
  t.same(new Set(counts.sources.map(({ family, interface: name, source, packets }) => `${family} ${name} ${source} ${packets}`)), new Set([
    `ipv4 ${one.hostInterface} ${one.address4} 2`, `ipv4 ${two.hostInterface} ${two.address4} 2`, `ipv4 ${egress} ${six.address4} 1`, `ipv6 ${six.hostInterface} ${six.address6} 2`,
  ]));
});

t.test('what is first seen and last seen, and what is not for IMDS', async (t) => {
  const lab = await makeNode(t);
  const { one } = lab.pods;
  await apply(lab, observe);
  await passes(lab, one);
  await new Promise((later) => setTimeout(later, 300));
  await passes(lab, one);
  await lab.exec(one.namespace, 'sh', ['-c', 'exec 3<>/dev/tcp/10.0.0.1/80; ping -c 1 -W 1 169.254.169.254']);
  const { interfaces, sources, processes } = await counted(lab);
  const [{ firstMsAgo = 0, lastMsAgo = 0 } = {}] = interfaces;
  t.ok(firstMsAgo - lastMsAgo >= 300 && firstMsAgo - lastMsAgo < 5000, `${firstMsAgo} ms and ${lastMsAgo} ms ago`);
  t.same([interfaces.length, sources.length, processes], [1, 1, []]);
});

t.test('enforcing, a connection comes to no request: attempts only', async (t) => {
  const lab = await makeNode(t);
  const { one, branch } = lab.pods;
  t.match(await apply(lab), { exitCode: 0, value: { mode: 'enforce', answer: 'blocked' } });
  t.ok(await dies(lab, one, { version: 1 }));
  t.ok(await dies(lab, branch, { version: 2 }));
  const counts = await counted(lab);
  t.match(counts, { mode: 'enforce', seesPayload: true, puts: [], gets: [] });
  t.same(Object.keys(byInterface(counts.interfaces)).sort(), [one.hostInterface, branch.hostInterface].sort());
  t.ok(counts.interfaces.every(({ packets }) => packets >= 1));
});

t.test('probes of our own are counted apart, by their source ports, blocked or not', async (t) => {
  const lab = await makeNode(t);
  const { one, two } = lab.pods;
  await apply(lab, observe);
  for (const localPort of [64512, 65023]) t.ok(await passes(lab, one, { version: 2, localPort }));
  t.ok(await passes(lab, 'node', { version: 2, localPort: 64600 }));
  for (const localPort of [64511, 65024]) t.ok(await passes(lab, two, { version: 1, localPort }));
  const counts = await counted(lab);
  t.same(byInterface(counts.probes), of(lab.pods, { one: 4 }));
  for (const which of ['interfaces', 'gets'] as const) t.same(byInterface(counts[which]), of(lab.pods, { two: 2 }), which);
  t.same([counts.puts, counts.processes, counts.sources.map(({ source }) => source)], [[], [], [two.address4]]);

  await apply(lab);
  t.ok(await dies(lab, one, { localPort: 64512 }), 'a pod may use them too: it is dropped all the same');
  t.same((await counted(lab)).interfaces, []);
});

t.test('a pod that makes up 5,000 addresses fills what is counted by address, and hides nobody', async (t) => {
  const lab = await makeNode(t);
  const { one, two, six, branch } = lab.pods;
  await mayMakeUpAddresses(lab, six);
  await apply(lab);
  for (const family of families) await knock(lab, six, family, 5000);
  t.same([...(await counted(lab)).full].sort(), ['clients4', 'clients6']);
  for (const pod of [one, two, branch]) t.ok(await dies(lab, pod));
  t.same(await fates(lab, ['node', one, two, branch, six]), expected([one, two, branch, six], 'timeout'), 'everybody is blocked');
  const { interfaces, sources } = await counted(lab);
  t.equal(sources.length, 2 * 4096);
  for (const pod of [one, two, branch, six]) t.ok(byInterface(interfaces)[pod.hostInterface]! >= 1, pod.name);
  t.ok(interfaces.every(({ lastMsAgo }) => lastMsAgo !== undefined), 'nor when they asked last');
  const judged = await check(lab);
  t.match(judged, { exitCode: 0, value: { answer: 'blocked', reason: 'EveryPacketDropped' } });
  t.same(judged.value.assumed, [], 'counting leaves no doubt');
});

t.test('processes of the node are told apart by cgroup, and by the ancestor at level 4 where they are deeper', async (t) => {
  const root = mkdtempSync(`${tmpdir()}/cgroup-`);
  execFileSync('mount', ['-t', 'cgroup2', 'none', root]);
  const names = ['', '/a', '/a/b', '/a/b/c', '/a/b/c/d'].map((name) => `${root}/imds-guard-${process.pid}${name}`);
  t.teardown(() => {
    for (const name of [...names].reverse()) rmdirSync(name);
    execFileSync('umount', [root]);
    rmdirSync(root);
  });
  for (const name of names) mkdirSync(name);
  const lab = await makeNode(t);
  const ask = (cgroup: string, times: number): Promise<unknown> =>
    must(lab, 'sh', '-c', `echo $$ >${cgroup}/cgroup.procs && for n in $(seq ${times}); do curl -s -o /dev/null -m 5 http://169.254.169.254/latest/; done`);
  await apply(lab);
  for (const [at, name] of names.entries()) await ask(name, at + 1);
  t.ok(await dies(lab, lab.pods.one));
  const { processes, interfaces } = await counted(lab);
  const seen = Object.fromEntries(processes.map(({ cgroup, packets }) => [cgroup, packets]));
  // The fifth is a level deeper than is looked at.
  const wanted = [1, 2, 3, 4 + 5].map((packets, at) => [String(statSync(names[at]!, { bigint: true }).ino), packets] as const);
  t.same(seen, Object.fromEntries(wanted));
  t.same(Object.keys(byInterface(interfaces)), [lab.pods.one.hostInterface]);
});

t.test('from enforce to observe and back: the rules of ours go and come, and those of others stay', async (t) => {
  for (const backend of backends) {
    const lab = await makeNode(t);
    const pods = Object.values(lab.pods);
    for (const family of families) for (const one of Object.values(foreign(family))) await restore(lab, backend, one, family);
    await iptables(lab, backend, '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP');
    const bare = await rules(lab);
    await apply(lab, ['--backend', backend]);
    const enforced = await rules(lab);
    t.same(await fates(lab, pods), without(expected(pods, 'timeout')));

    const observed = await apply(lab, ['--backend', backend, ...observe]);
    t.match(observed, { value: { answer: 'open', problems: [], left: [] } });
    t.equal(await rules(lab), `${bare}\n${await guardTable(lab)}`, 'only the table that counts is more than before');
    t.notMatch(await guardTable(lab), /forward|drop/);
    t.ok(await dies(lab, lab.pods.two), 'who had the documented rule before us has it still');
    t.ok(await passes(lab, lab.pods.branch));
    const before = await world(lab);
    t.match(await apply(lab, ['--backend', backend, ...observe]), { value: { steps: [] } });
    t.equal(await world(lab), before, 'a second time nothing is written');

    t.match(await apply(lab, ['--backend', backend]), { exitCode: 0, value: { answer: 'blocked', problems: [], left: [] } });
    t.equal(await rules(lab), enforced);
    await apply(lab, ['--backend', backend, ...observe]);
    t.match(await remove(lab), { exitCode: 0, value: { left: [] } });
    t.equal(await rules(lab), bare);
  }
});
const without = ({ 'node 4 v1': _, 'node 4 v2': __, ...rest }: Readonly<Record<string, string>>): Readonly<Record<string, string>> => rest;

/** An nft that is too old for what looks into packets. */
const oldNft = among(`
mkdir -p /run/old
printf '%s\\n' '#!/bin/sh' 'case "$*" in *-f*) ;; *) exec /usr/sbin/nft "$@";; esac' 'script=$(mktemp /run/old/XXXXXX)' 'cat >$script' 'if grep -q "@ih" $script; then echo "/dev/stdin:42:5-7: Error: syntax error, unexpected @" >&2; exit 1; fi' 'exec /usr/sbin/nft -f $script' >/run/old/nft
chmod 755 /run/old/nft
mount --bind /run/old /usr/local/sbin`);
const simpleScript = guardScript
  .replaceAll(/ {2}set (puts|gets|processes) \{[^}]*\}\n/g, '')
  .replaceAll(/ {2}chain (carried|count-node|asked-node) \{(\n {4}.*)*\n {2}\}\n/g, '')
  .replace('tcp flags ack goto carried', 'tcp flags ack return');

t.test('where nft or the kernel refuses to look into packets, connections are counted and dropped all the same', async (t) => {
  const lab = await makeNode(t);
  const pods = Object.values(lab.pods);
  const applied = await apply(lab, [], oldNft);
  t.match(applied, { exitCode: 0, value: { answer: 'blocked', problems: [], left: [] } });
  t.same(scriptsOf(applied.value.steps), [simpleScript], 'what is told is what was written');
  t.match(applied.value.steps.at(-1)?.because, ['table inet imds-guard is missing', /^what looks into packets was refused \(nft: .*syntax error/]);
  const before = await world(lab);
  t.match(await apply(lab, [], oldNft), { exitCode: 0, value: { steps: [] } }, 'nothing is written a second time');
  t.equal(await world(lab), before);
  t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'));
  const counts = await counted(lab);
  t.match(counts, { seesPayload: false, puts: [], gets: [], processes: [] });
  for (const pod of pods) t.ok(byInterface(counts.interfaces)[pod.hostInterface]! >= 1, pod.name);
  await nft(lab, 'flush chain inet imds-guard forward\n');
  t.match(await apply(lab, [], oldNft), { exitCode: 0, value: { answer: 'blocked', steps: [{ script: `delete table inet imds-guard\n${simpleScript}` }] } });
});

t.test('no table, no right to ask: that is the answer', async (t) => {
  const lab = await makeNode(t);
  t.same(await read(lab), { state: 'absent', because: 'there is no table inet imds-guard' });
  t.same(await read(lab, nobody), { state: 'absent', because: 'not permitted: CAP_NET_ADMIN is needed' });
});

t.test('observe without anything to count with is a mistake', async (t) => {
  const lab = await makeNode(t);
  t.match(await guard(lab, ['apply', ...observe, '--guard', 'none']), { exitCode: 64, stderr: /^imds-guard: mode observe and guard none do not go together: .*\n$/ });
  t.equal(await rules(lab), '');
});
