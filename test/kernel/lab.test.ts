// The lab's own truths: what every other kernel test takes for granted.
import { execa } from 'execa';
import t from 'tap';
import { makeLab, type Answer, type Lab } from '../lab/lab.ts';

const imds = '169.254.169.254/32';
const silent = { timeoutMs: 500 };

t.test('every kind of pod, and the node, reaches IMDS with and without a token', async t => {
  const lab = await makeLab({
    pods: { ordinary: 'eni', branch: 'vlan', second: 'vlan', six: 'v6', custom: { kind: 'eni', prefix: 'cali' }, macvlan: 'macvlan' },
  });
  t.teardown(lab.remove);
  for (const from of ['node', ...Object.values(lab.pods)] as const) {
    for (const version of [1, 2] as const) {
      const answer = await lab.request(from, { version });
      t.match(answer, { fate: 'reached', status: 200, body: 'i-0123456789abcdef0' }, `${nameOf(from)}, version ${version}`);
    }
  }
  t.match(await lab.request(lab.pods.six, { family: 6, version: 2 }), { fate: 'reached', status: 200 }, 'over IPv6');
  t.match(await lab.request('node', { family: 6 }), { fate: 'reached', status: 200 }, 'the node over IPv6');
  t.match(lab.pods, {
    ordinary: { hostInterface: /^eni[0-9a-f]{11}$/ },
    branch: { hostInterface: /^vlan[0-9a-f]{11}$/ },
    six: { hostInterface: /^eni[0-9a-f]{11}$/, hostInterface4: /^veth[0-9a-f]{8}$/ },
    custom: { hostInterface: /^cali[0-9a-f]{11}$/ },
    macvlan: { hostInterface: '' },
  });
  const { stdout } = await lab.exec(lab.node, 'ip', ['-o', 'link']);
  for (const pod of Object.values(lab.pods)) {
    for (const link of [pod.hostInterface, pod.hostInterface4]) t.ok(stdout.includes(` ${link}`), `the node has ${link || 'no end of it'}`);
  }
});

t.test('the packets go where an EKS node would send them', async t => {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6', macvlan: 'macvlan' } });
  t.teardown(lab.remove);
  const rules = Object.entries({
    ordinary: ['-i', lab.pods.ordinary.hostInterface, '-o', 'ens5'],
    branch: ['-i', lab.pods.branch.hostInterface, '-o', 'vlan.eth.1'],
    six: ['-i', lab.pods.six.hostInterface4, '-o', 'ens5'],
    macvlan: ['-s', lab.pods.macvlan.address4],
  });
  for (const [name, rule] of rules) {
    await iptables(lab, '-A', 'FORWARD', ...rule, '-d', imds, '-p', 'tcp', '--syn', '-m', 'comment', '--comment', name);
  }
  for (const pod of Object.values(lab.pods)) await lab.request(pod);
  await lab.request('node');
  const { stdout } = await lab.exec(lab.node, 'iptables-save', ['-c', '-t', 'filter']);
  for (const name of ['ordinary', 'branch', 'six']) t.match(stdout, new RegExp(`^\\[1:\\d+\\] .*--comment ${name}$`, 'm'));
  t.match(stdout, /^\[0:0\] .*--comment macvlan$/m, 'a macvlan pod passes by the forward hook');
});

for (const backend of ['nft', 'legacy'] as const) {
  t.test(`the documented rules (${backend}) block eni and vlan pods, and nobody else`, async t => {
    const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6', macvlan: 'macvlan' } });
    t.teardown(lab.remove);
    const live = await lab.openLive(lab.pods.ordinary);
    const command = `iptables-${backend}`;
    await must(lab, command, '-I', 'FORWARD', '1', '-i', 'eni+', '-d', imds, '-j', 'DROP');
    await must(lab, command, '-t', 'mangle', '-A', 'POSTROUTING', '-o', 'vlan+', '-d', imds, '-j', 'DROP');
    await lab.seen();
    const [ordinary, branch, six, macvlan, node, onLive] = await Promise.all([
      lab.request(lab.pods.ordinary, silent),
      lab.request(lab.pods.branch, silent),
      lab.request(lab.pods.six),
      lab.request(lab.pods.macvlan),
      lab.request('node'),
      live.request(silent),
    ]);
    t.same(ordinary, { fate: 'timeout', during: 'connect' });
    t.same(branch, { fate: 'timeout', during: 'connect' });
    t.match(six, { fate: 'reached' }, 'the v4-egress veth of an IPv6 cluster is not eni+');
    t.match(macvlan, { fate: 'reached' });
    t.match(node, { fate: 'reached' });
    t.same(onLive, { fate: 'timeout', during: 'answer' }, 'an established connection stops too');
    t.equal((await lab.seen()).length, 3, 'the server has seen those that say that they reached it');
    t.same(await live.request(), { fate: 'refused', code: 'connection-lost' }, 'a live connection is never replaced by a new one');

    await must(lab, command, '-I', 'FORWARD', '1', '-i', 'eni+', '-j', 'ACCEPT');
    t.match(await lab.request(lab.pods.ordinary), { fate: 'reached' }, 'an ACCEPT above');
    await must(lab, command, '-C', 'FORWARD', '-i', 'eni+', '-d', imds, '-j', 'DROP');
  });
}

t.test('a REJECT is a refusal, not a silence', async t => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  await iptables(lab, '-I', 'FORWARD', '1', '-i', 'eni+', '-d', imds, '-p', 'tcp', '-j', 'REJECT', '--reject-with', 'tcp-reset');
  t.same(await lab.request(lab.pods.ordinary), { fate: 'refused', code: 'ECONNREFUSED' });
});

t.test('with hop limit 1 pods hang on the token while the node gets one', async t => {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' }, hopLimit: 1 });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  const ask = (timeoutMs: number): Promise<Answer[]> =>
    Promise.all([...pods.map(pod => lab.request(pod, { version: 2, timeoutMs })), lab.request(lab.pods.six, { version: 2, family: 6, timeoutMs })]);
  for (const answer of await ask(500)) t.same(answer, { fate: 'timeout', during: 'token' });
  t.match(await lab.request('node', { version: 2 }), { fate: 'reached', status: 200 });
  t.match(await lab.request(lab.pods.ordinary), { fate: 'reached', status: 200 }, 'version 1 knows no hop limit');
  await lab.setHopLimit(2);
  for (const answer of await ask(2000)) t.match(answer, { fate: 'reached', status: 200 }, 'hop limit 2');
});

t.test('where version 1 is off, a bare request reaches IMDS and gets 401', async t => {
  const lab = await makeLab({ pods: { ordinary: 'eni' }, version1: false });
  t.teardown(lab.remove);
  t.match(await lab.request(lab.pods.ordinary), { fate: 'reached', status: 401, body: '' });
  t.match(await lab.request(lab.pods.ordinary, { version: 2 }), { fate: 'reached', status: 200 });
});

t.test('a request can leave from a given port', async t => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  for (let time = 1; time <= 2; time += 1) {
    t.match(await lab.request(lab.pods.ordinary, { localPort: 40_000 }), { fate: 'reached', from: { port: 40_000 } }, `time ${time}`);
  }
});

t.test('a live connection answers again and again, from one port', async t => {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  const live = await lab.openLive(lab.pods.ordinary);
  for (let time = 1; time <= 3; time += 1) t.match(await live.request(), { fate: 'reached', status: 200, from: live.from });
});

t.test('exec hands over stdin, and gives back both outputs and the exit code, untrimmed', async t => {
  const lab = await makeLab({ pods: {} });
  t.teardown(lab.remove);
  t.same(await lab.exec(lab.node, 'sh', ['-c', 'cat; echo "$LC_ALL" >&2; exit 3'], { stdin: 'in\n' }), {
    stdout: 'in\n',
    stderr: 'C\n',
    exitCode: 3,
  });
  t.equal((await lab.exec(lab.node, 'sleep', ['60'], { timeoutMs: 50 })).exitCode, undefined);
});

t.test('removal leaves no namespace, no process and no mount behind', async t => {
  const before = await leftovers();
  const lab = await makeLab({ pods: { ordinary: 'eni', six: 'v6' } });
  const daemon = lab.start(lab.node, 'sleep', ['60']);
  t.ok(lab.pods.ordinary.namespace.startsWith(`ig${process.pid}-`));
  t.not(await leftovers(), before);
  await lab.remove();
  t.equal(await leftovers(), before);
  t.equal((await daemon).signal, 'SIGKILL');
});

t.test('a lab that cannot be built leaves nothing behind either', async t => {
  const before = await leftovers();
  await t.rejects(makeLab({ pods: { bad: { kind: 'eni', prefix: 'a/b' } } }), { message: 'the lab could not be built' });
  t.equal(await leftovers(), before);
});

for (const signal of ['SIGINT', 'SIGKILL'] as const) {
  t.test(`a test that ends by ${signal} takes its lab with it`, async t => {
    const before = await leftovers();
    const program = `
      const { makeLab } = await import(${JSON.stringify(new URL('../lab/lab.ts', import.meta.url).href)});
      const lab = await makeLab({ pods: { ordinary: 'eni' } });
      setInterval(() => {}, 1000);
      console.log(lab.node);`;
    const test = execa(process.execPath, ['--input-type=module', '-e', program], { reject: false, env: { NODE_OPTIONS: '' } });
    for await (const node of test) {
      t.match(await leftovers(), node);
      test.kill(signal);
    }
    await test;
    // After a SIGKILL a process of the lab clears up; it is no child of ours, so its end is seen in /run/netns.
    const deadline = performance.now() + 5000;
    while ((await leftovers()) !== before && performance.now() < deadline);
    t.equal(await leftovers(), before);
  });
}

async function leftovers(): Promise<string> {
  const { stdout } = await execa('ip', ['netns', 'list']);
  const { stdout: mounts } = await execa('findmnt', ['-rno', 'TARGET']);
  const here = (line: string): boolean => line.includes(`ig${process.pid}-`) || /netns/.test(line);
  return [...stdout.split('\n').sort(), ...mounts.split('\n').filter(here)].join('\n');
}

function nameOf(from: Lab['pods'][string] | 'node'): string {
  return from === 'node' ? from : from.name;
}

async function must(lab: Lab<never> | Lab, command: string, ...args: string[]): Promise<void> {
  const { exitCode, stderr } = await lab.exec(lab.node, command, args);
  if (exitCode !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${exitCode}: ${stderr}`);
}

function iptables(lab: Lab, ...args: string[]): Promise<void> {
  return must(lab, 'iptables', ...args);
}
