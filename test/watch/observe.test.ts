// `imds-guard watch --mode observe`: it keeps the table that counts, and blocks nobody.
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type Daemon, startDaemon } from '../lab/daemon.ts';
import { type Lab, makeLab } from '../lab/lab.ts';
import { counted } from '../kernel/counted.ts';
import { apply, dies, iptables, must, nft, passes, rules, saved } from '../kernel/guard.ts';

t.setTimeout(120_000);

async function makeNode(t: Test) {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan' } });
  t.teardown(lab.remove);
  return lab;
}
const start = (t: Test, lab: Lab, args: readonly string[]): Daemon => {
  const daemon = startDaemon(lab, args);
  t.teardown(daemon.stop);
  return daemon;
};
const ours = /169\.254\.169\.254/;
const table = (lab: Lab): Promise<string> => must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard');
const readyz = async (lab: Lab): Promise<string> => must(lab, 'curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:16925/readyz');
const observes = (daemon: Daemon) => daemon.statusThat(({ mode, answer, guard }) => mode === 'observe' && answer === 'open' && guard.state !== 'absent');

t.test('what an earlier apply wrote goes, the table counts, and everything says that nothing is blocked', async (t) => {
  const lab = await makeNode(t);
  await iptables(lab, 'nft', '-A FORWARD -s 192.0.2.1 -j DROP');
  const before = await saved(lab, 'nft', 'ipv4', 'filter');
  t.match(await apply(lab), { exitCode: 0 });
  const daemon = start(t, lab, ['--mode', 'observe']);
  t.match(await observes(daemon), { provedBlocked: false, reason: 'PacketPasses', guard: { state: 'owned-persistent', droppedPackets: undefined }, counts: { rules: [] } });
  t.equal(await saved(lab, 'nft', 'ipv4', 'filter'), before);
  t.notMatch(await saved(lab, 'nft'), ours);
  t.notMatch(await table(lab), /drop|forward/);
  t.ok(await passes(lab, lab.pods.ordinary, { version: 2 }));
  t.match(await table(lab), new RegExp(`set puts \\{[^}]*"${lab.pods.ordinary.hostInterface}" counter packets 1 `));
  t.equal(await readyz(lab), '503');
  t.equal(daemon.events.filter(({ msg }) => msg === 'mode observe: nothing is blocked, who asks for IMDS is only counted').length, 1);

  const checks = (await daemon.status()).counts.checks.open;
  await iptables(lab, 'nft', '-I FORWARD 1 -d 169.254.169.254/32 -i eni+ -j DROP');
  await daemon.statusThat(({ counts }) => counts.checks.open > checks);
  t.match(await saved(lab, 'nft', 'ipv4', 'filter'), ours, 'what somebody else writes now is theirs, and stays');
  await iptables(lab, 'nft', '-F FORWARD');
  await daemon.statusThat(({ counts }) => counts.checks.open > checks + 1);
  t.notMatch(await saved(lab, 'nft'), ours, 'and nothing is put back');
  t.match(await daemon.status(), { overwrites: [], answer: 'open' });
});

t.test('a count table that is lost is put back', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, ['--mode', 'observe', '--guard', 'plain']);
  await observes(daemon);
  await nft(lab, 'delete table inet imds-guard\n');
  t.match(await daemon.until(({ msg }) => msg === 'overwritten'), { lost: ['nft inet imds-guard'], couldHavePassed: 'yes' });
  await daemon.until(({ msg }) => msg === 'restored');
  t.match(await table(lab), /add @interfaces/);
  t.ok(await passes(lab, lab.pods.branch));
});

t.test('SIGHUP changes the mode, there and back', async (t) => {
  const lab = await makeNode(t);
  const config = `/run/mode-${process.pid}.yaml`;
  const say = (mode: string, daemon: Daemon): void => {
    writeFileSync(config, `mode: ${mode}\n`);
    process.kill(daemon.pid!, 'SIGHUP');
  };
  writeFileSync(config, 'mode: enforce\n');
  const daemon = start(t, lab, ['--config', config]);
  await daemon.ready();
  const enforced = await rules(lab);
  t.ok(await dies(lab, lab.pods.ordinary));

  say('observe', daemon);
  t.match(await observes(daemon), { provedBlocked: false });
  t.notMatch(await saved(lab, 'nft'), ours);
  t.ok(await passes(lab, lab.pods.ordinary));
  t.ok(await passes(lab, lab.pods.branch));
  t.equal(await readyz(lab), '503', 'what was proved before was proved of another mode');

  say('enforce', daemon);
  t.match(await daemon.statusThat(({ mode, answer }) => mode === 'enforce' && answer === 'blocked'), { provedBlocked: true, overwrites: [] });
  t.ok(await dies(lab, lab.pods.ordinary));
  t.ok(await dies(lab, lab.pods.branch));
  t.equal(await rules(lab), enforced);
});

t.test('apply --mode observe while a daemon enforces: refused, nothing changed', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, []);
  await daemon.ready();
  const before = await rules(lab);
  t.match(await apply(lab, ['--mode', 'observe']), { exitCode: 0, value: { answer: 'blocked', steps: [], problems: [/^imds-guard watch runs on this node, and would put back/] } });
  t.equal(await rules(lab), before);
});

t.test('who asked, and since when, is known after each death of the daemon, and in the other mode', async (t) => {
  const lab = await makeNode(t);
  const { ordinary, branch } = lab.pods;
  const config = `/run/mode-${process.pid}-deaths.yaml`;
  writeFileSync(config, 'mode: observe\n');
  const restart = async (): Promise<Daemon> => {
    const daemon = start(t, lab, ['--config', config]);
    await observes(daemon);
    return daemon;
  };
  let daemon = await restart();
  t.ok(await passes(lab, ordinary, { version: 2 }));
  const first = await counted(lab);
  t.match(first, { interfaces: [{ interface: ordinary.hostInterface, packets: 2 }], puts: [{ packets: 1 }], gets: [{ packets: 1 }], sources: [{ source: ordinary.address4, packets: 2 }] });
  let asked = 2;
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    await (signal === 'SIGKILL' ? daemon.kill(signal) : daemon.stop());
    t.ok(await passes(lab, ordinary, { version: 1 }), 'while nobody watches it is counted too');
    daemon = await restart();
    t.ok(await passes(lab, ordinary, { version: 1 }), 'and afterwards');
    asked += 2;
    const { interfaces, puts, gets, sources, sinceMsAgo = 0 } = await counted(lab);
    t.match({ interfaces, puts, gets, sources }, { interfaces: [{ interface: ordinary.hostInterface, packets: asked }], puts: [{ packets: 1 }], gets: [{ packets: asked - 1 }], sources: [{ packets: asked }] }, signal);
    t.ok(interfaces[0]!.firstMsAgo! > first.interfaces[0]!.firstMsAgo! + 100, 'first seen when it was');
    t.ok(interfaces[0]!.lastMsAgo! < 5000);
    t.ok(sinceMsAgo >= interfaces[0]!.firstMsAgo!, `counted for ${sinceMsAgo} ms`);
  }
  writeFileSync(config, 'mode: enforce\n');
  process.kill(daemon.pid!, 'SIGHUP');
  await daemon.statusThat(({ mode, answer }) => mode === 'enforce' && answer === 'blocked');
  t.ok(await dies(lab, branch));
  const enforced = await counted(lab);
  t.same(enforced.interfaces.find((one) => one.interface === ordinary.hostInterface)?.packets, asked);
  t.ok(enforced.interfaces.some((one) => one.interface === branch.hostInterface));
  t.ok(enforced.sinceMsAgo! >= enforced.interfaces.find((one) => one.interface === ordinary.hostInterface)!.firstMsAgo!);
});
