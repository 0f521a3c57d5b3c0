// The daemon as systemd's service: ready when it is, and what it keeps is kept while it is not there.
import t from 'tap';
import type { WatchStatus } from '../../agent/core/watch-status.ts';
import { expected, fates } from '../kernel/guard.ts';
import { startHammers, sum } from '../soak/hammers.ts';
import type { Node } from './node.ts';
import { diskOf, during, right, running, skip, userData } from './world.ts';

const PROGRAM = '/opt/imds-guard/imds-guard';
const UNIT = 'imds-guard.service';

async function shown(node: Node, ...properties: readonly string[]): Promise<Readonly<Record<string, string>>> {
  const { stdout } = await node.run('systemctl', 'show', UNIT, ...properties.map((name) => `--property=${name}`));
  return Object.fromEntries(stdout.trimEnd().split('\n').map((line) => line.split('=', 2)));
}
const tables = async (node: Node): Promise<string> => (await node.run('nft', 'list', 'tables')).stdout;

/** What somebody does who wants to be rid of all rules, at the moment that nobody keeps them. */
const KILL_AND_FLUSH = `
pid=$(systemctl show --property=MainPID --value ${UNIT})
kill -KILL $pid
while test -d /proc/$pid; do :; done
nft flush ruleset
nft delete table inet imds-guard
echo "exit $?"
systemctl show --property=SubState --value ${UNIT}`;

await t.test('its table stands through restarts, crashes and whoever uses them, and its rules when it is stopped', { skip }, async (t) => {
  const disk = diskOf(t, 'al2023', userData('al2023', right()));
  await during(t, disk, { serves: true }, async (node) => {
    await node.settled();
    await running(node);
    t.same(await shown(node, 'Type', 'SubState', 'NRestarts', 'NFileDescriptorStore'), { Type: 'notify', SubState: 'running', NRestarts: '0', NFileDescriptorStore: '1' }, 'it is ready, and systemd keeps its socket');
    const ask = async (): Promise<WatchStatus> => JSON.parse((await node.run('curl', '--silent', 'http://127.0.0.1:16925/status')).stdout) as WatchStatus;
    let status = await ask();
    // Nothing tells when packets were sent; a status is new after a second.
    for (const deadline = performance.now() + 60_000; status.observed.state !== 'tried' && performance.now() < deadline; status = await ask()) await new Promise((later) => setTimeout(later, 1010));
    t.match(status, { role: 'watching', answer: 'blocked', basis: ['rules', 'packets'], guard: { state: /^owned/ }, events: { state: 'subscribed' } }, 'and does all that it does elsewhere, for all the hardening');

    const hammers = await startHammers(node.lab, { perSecond: 300, lives: 0, livesMs: 0 });
    t.teardown(() => hammers.stop());
    hammers.begin();

    t.match(await node.run('systemctl', 'restart', UNIT), { exitCode: 0 });
    await running(node, 2);
    t.match(await shown(node, 'SubState', 'NFileDescriptorStore'), { SubState: 'running', NFileDescriptorStore: '1' }, 'after a restart');

    t.match(await node.run('sh', '-c', KILL_AND_FLUSH), { stdout: 'exit 1\nauto-restart\n', stderr: /Operation not permitted/ }, 'between a crash and the next start root may not delete the table');
    t.match(await tables(node), /^table inet imds-guard$/m, 'nor flush it');
    await running(node, 3);
    t.match(await shown(node, 'SubState', 'NRestarts', 'NFileDescriptorStore'), { SubState: 'running', NRestarts: '1', NFileDescriptorStore: '1' }, 'after a crash');
    t.match((await node.run('iptables', '-t', 'mangle', '-S', 'FORWARD')).stdout, /-A FORWARD -d 169\.254\.169\.254\/32 -m comment --comment imds-guard -j DROP/, 'what was flushed meanwhile is back');

    t.match(await node.run('systemctl', 'stop', UNIT), { exitCode: 0 });
    t.match(await tables(node), /^table inet imds-guard$/m, 'stopped: the table stays');
    t.match((await node.run('iptables', '-S', 'FORWARD')).stdout, /-A FORWARD -d 169\.254\.169\.254\/32 -i eni\+ -j DROP/, 'and the rules');

    const hammered = sum(Object.values(await hammers.end()));
    t.match(hammered, { connected: 0, tokens: 0, version1: 0, version2: 0, failed: 0 }, 'nobody got anything all the while');
    t.ok(hammered.attempts > 300, `of ${hammered.attempts} attempts`);

    // As userdata.md has it. Disabled, or systemd would go on keeping the socket, and the table with it.
    t.match(await node.run('systemctl', 'disable', 'imds-guard-rules', 'imds-guard-fetch', 'imds-guard'), { exitCode: 0 });
    t.match(await node.run(PROGRAM, 'remove'), { exitCode: 0 });
    t.same(await fates(node.lab, ['node', ...Object.values(node.lab.pods)], 5000), expected(Object.values(node.lab.pods), 'reached'), 'with the rules taken away, all do');
  });
});
