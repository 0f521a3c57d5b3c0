// `imds-guard watch --mode observe`: it keeps the table that counts, and blocks nobody.
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type Daemon, startDaemon } from '../lab/daemon.ts';
import { type Lab, makeLab } from '../lab/lab.ts';
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
