// `imds-guard remove` while the daemon runs, where no table tells that it does.
import t, { type Test } from 'tap';
import { startDaemon } from '../lab/daemon.ts';
import { makeLab, type Lab } from '../lab/lab.ts';
import { guard, must, remove, saved } from '../kernel/guard.ts';

const documented = '-d 169.254.169.254/32 -i eni+ -j DROP';
const rulesOf = async (lab: Lab): Promise<string[]> => (await saved(lab, 'nft', 'ipv4')).split('\n').filter((line) => line.startsWith('-A '));

async function makeNode(t: Test) {
  const lab = await makeLab({ pods: { ordinary: 'eni' } });
  t.teardown(lab.remove);
  return lab;
}

for (const guardTable of ['none', 'plain'] as const) {
  t.test(`a daemon without a table that it owns (--guard ${guardTable}): remove changes nothing until it has stopped, and then leaves the operator's rule`, async (t) => {
    const lab = await makeNode(t);
    await must(lab, 'iptables-nft', '-A', 'FORWARD', ...documented.split(' '));
    const daemon = startDaemon(lab, ['--guard', guardTable]);
    t.teardown(daemon.stop);
    await daemon.statusThat(({ counts, provedBlocked }) => provedBlocked && counts.rules.length > 0 && counts.rules.every(({ present }) => present));
    const before = await rulesOf(lab);
    t.ok(before.some((rule) => rule.startsWith('-A IMDS-GUARD-FOUND ')), before.join('\n'));
    for (const args of [[], ['--dry-run']]) {
      const refused = await remove(lab, args);
      t.match(refused, { exitCode: 2, stderr: '', value: { steps: [], problems: [new RegExp(`^imds-guard watch runs on this node: process ${daemon.pid} .* Stop it first; nothing was changed$`)] } });
      t.equal(refused.value.problems.length, 1);
      t.ok(refused.value.left.length > 0);
      t.match(await guard(lab, ['remove', ...args]), { exitCode: 2, stdout: /^nothing was taken away\nfailed: imds-guard watch runs on this node: process / });
    }
    t.same(await rulesOf(lab), before);
    t.notOk(daemon.events.some(({ msg }) => msg === 'overwritten'), 'the daemon had nothing to put back');

    await daemon.stop();
    for (const time of ['first', 'second']) {
      t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } }, time);
      t.same(await rulesOf(lab), [`-A FORWARD ${documented}`], `what the operator wrote stays, the ${time} time`);
    }
  });
}

t.test('somebody else who holds the name of the daemon keeps nobody from removing', async (t) => {
  const lab = await makeNode(t);
  t.match(await guard(lab, ['apply']), { exitCode: 0 });
  const squatter = lab.start(lab.node, 'python3', ['-uc', 'import socket, time; s = socket.socket(socket.AF_UNIX); s.bind("\\0imds-guard"); print("bound"); time.sleep(1000)']);
  await new Promise((bound) => squatter.stdout!.once('data', bound));
  t.match(await remove(lab), { exitCode: 0, value: { problems: [], left: [] } });
  t.same(await rulesOf(lab), []);
});
