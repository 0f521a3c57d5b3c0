import t, { type Test } from 'tap';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { startDaemon, type Daemon, type DaemonOptions } from '../lab/daemon.ts';
import { makeLab, type Lab } from '../lab/lab.ts';
import { dies, iptables, must, nft, passes, program, saved } from '../kernel/guard.ts';
import { among, nobody, without } from '../kernel/surroundings.ts';

async function makeNode(t: Test) {
  const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan' } });
  t.teardown(lab.remove);
  return lab;
}
const start = (t: Test, lab: Lab, args: readonly string[] = [], options: DaemonOptions = {}): Daemon => {
  const daemon = startDaemon(lab, args, options);
  t.teardown(daemon.stop);
  return daemon;
};
/** So many changes that a socket which nobody reads is full. */
async function overflow(lab: Lab): Promise<void> {
  const rule = 'add rule ip flood c ip saddr 10.0.0.1 counter accept\n';
  await nft(lab, 'add table ip flood\nadd chain ip flood c\n');
  // `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`
  const dropped = async (): Promise<boolean> => (await must(lab, 'cat', '/proc/net/netlink')).split('\n').some((line) => line.trim().split(/\s+/)[1] === '12' && Number(line.trim().split(/\s+/)[8]) > 0);
  while (!(await dropped())) await nft(lab, `${rule.repeat(10_000)}flush chain ip flood c\n`);
}
const documented = 'FORWARD -i eni+ -d 169.254.169.254/32 -j DROP';
const hasRule = async (lab: Lab): Promise<boolean> => /-A FORWARD -d 169\.254\.169\.254\/32 -i eni\+ -j DROP/.test(await saved(lab, 'nft', 'ipv4', 'filter'));

/** A directory before all others where the programs of iptables are, as scripts that can be told to fail or to hang. */
const shims = (folder: string) => among(`
mkdir -p ${folder}
for name in iptables-nft-save ip6tables-nft-save iptables-legacy-save ip6tables-legacy-save iptables-nft-restore ip6tables-nft-restore; do
  printf '#!/bin/sh\\n[ ! -e ${folder}.broken ] || { echo "$0: out of order" >&2; exit 4; }\\n[ ! -e ${folder}.hanging ] || { echo $$ >> ${folder}.hung; exec sleep 1000; }\\nexec /usr/sbin/%s "$@"\\n' $name >${folder}/$name
  chmod 755 ${folder}/$name
done
mount --bind ${folder} /usr/local/sbin`);
let folders = 0;
const shimFolder = (t: Test): string => {
  const folder = `/run/shims-${(folders += 1)}`;
  mkdirSync(folder, { recursive: true });
  t.teardown(() => rmSync(`${folder}.broken`, { force: true }));
  return folder;
};

t.test('told to stop, it leaves every rule and the guard table, and pods stay blocked', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab);
  await daemon.ready();
  const before = await saved(lab, 'nft');
  await daemon.stop();
  t.match(await daemon.ended, { exitCode: 0, stderr: '' });
  t.equal(await saved(lab, 'nft'), before);
  t.match(await must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard'), /169\.254\.169\.254 counter .*drop/);
  t.ok(await dies(lab, lab.pods.ordinary));
});

t.test('told to stop in the middle of an apply whose programs hang, it does not wait for them', async (t) => {
  const lab = await makeNode(t);
  const folder = shimFolder(t);
  writeFileSync(`${folder}.hanging`, '');
  const daemon = start(t, lab, [], { before: shims(folder) });
  await daemon.until(({ msg }) => msg === 'watching');
  while (!/\d/.test(await must(lab, 'sh', '-c', `cat ${folder}.hung 2>/dev/null || :`)));
  await daemon.stop();
  t.match(await daemon.ended, { exitCode: 0 });
  const hung = readFileSync(`${folder}.hung`, 'utf8').trim().split('\n').map(Number);
  t.ok(hung.length > 0);
  for (const pid of hung) try { process.kill(pid, 'SIGKILL'); } catch { /* it went with its parent */ }
  t.ok(await dies(lab, lab.pods.ordinary), 'the guard table was there before all else, and stays');
});

t.test('killed at any moment, it leaves the node as protected as it was; the next start takes everything over', async (t) => {
  const lab = await makeNode(t);
  const first = start(t, lab);
  await first.ready();
  await first.kill('SIGKILL');
  t.ok(await dies(lab, lab.pods.ordinary));
  await nft(lab, 'delete table inet imds-guard\n');
  t.ok(await dies(lab, lab.pods.ordinary), 'by the rules of iptables');
  await must(lab, 'iptables-nft', '-t', 'mangle', '-F');
  await must(lab, 'iptables-nft', '-F');
  t.ok(await passes(lab, lab.pods.ordinary));
  const second = start(t, lab);
  await second.ready();
  t.match(await second.status(), { guard: { state: 'owned-persistent' }, answer: 'blocked' });
  t.ok(await dies(lab, lab.pods.ordinary));
  t.ok(await hasRule(lab));
});

t.test('a second instance stands by and writes nothing; when the first dies it takes over at once', async (t) => {
  const lab = await makeNode(t);
  const first = start(t, lab);
  await first.ready();
  const second = start(t, lab, ['--port', '16926']);
  t.match(await second.until(({ msg }) => msg?.startsWith('standing by') ?? false), { leader: { pid: first.pid } });
  await second.ready();
  await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
  await first.until(({ msg }) => msg === 'restored');
  t.notOk(second.events.some(({ msg }) => msg === 'overwritten' || msg === 'restored'), 'one repairs');
  const since = second.events.length;
  await first.kill('SIGKILL');
  await second.until(({ msg }) => msg === 'watching', { since });
  await second.until(({ msg }) => msg === 'guard table: owned-persistent', { since });
  t.not((await lab.exec(lab.node, 'nft', ['delete', 'table', 'inet', 'imds-guard'])).exitCode, 0, 'the table has a new owner');
  await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
  await second.until(({ msg }) => msg === 'restored', { since });
  t.ok(await hasRule(lab));
});

t.test('SIGHUP: settings that changed are taken, wrong ones are not', async (t) => {
  const lab = await makeNode(t);
  const config = `/run/watch-${process.pid}.yaml`;
  writeFileSync(config, 'interfaces: [eni+]\n');
  const daemon = start(t, lab, ['--config', config]);
  await daemon.ready();
  writeFileSync(config, 'interfaces: [eni+, foo+]\n');
  process.kill(daemon.pid!, 'SIGHUP');
  await daemon.until(({ msg }) => msg === 'the settings were read again');
  await daemon.statusThat(({ report }) => report?.targets.some((target) => target.interface === 'foo+' && target.answer === 'blocked') ?? false);
  t.match(await saved(lab, 'nft'), /-i foo\+ -m comment --comment imds-guard -j DROP/);
  writeFileSync(config, 'interfaces: [fo o]\n');
  process.kill(daemon.pid!, 'SIGHUP');
  t.match(await daemon.until(({ level }) => level === 'error'), { msg: /the settings stay as they were: .*interfaces/ });
  t.ok((await daemon.status()).report?.targets.some((target) => target.interface === 'foo+'));
});

t.test('what the operator got wrong: exit 64, one line, nothing changed', async (t) => {
  const lab = await makeNode(t);
  const busy = lab.start(lab.node, process.execPath, ['-e', 'require("node:net").createServer().listen(16925, "127.0.0.1", () => console.log("listening"))']);
  await new Promise((listening) => busy.stdout!.once('data', listening));
  for (const [args, says] of [[[], /16925.*in use/], [['--port', '61678'], /61678/], [['--resync', '1'], /resync/i], [['--interface', 'a b'], /interface/]] as const) {
    const daemon = start(t, lab, args);
    const ended = await daemon.ended;
    t.equal(ended.exitCode, 64, args.join(' '));
    t.match(ended.stderr, says);
    t.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
  }
  t.equal(await must(lab, 'nft', 'list', 'ruleset'), '');
});

t.test('without nft: the daemon needs none', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, [], { before: without('nft') });
  await daemon.ready();
  t.match(await daemon.status(), { guard: { state: 'owned-persistent' }, provedBlocked: true });
  await must(lab, 'nft', 'flush', 'ruleset');
  await daemon.until(({ msg }) => msg === 'restored');
  t.ok(await dies(lab, lab.pods.ordinary));
});

t.test('where libc cannot be called (a file system mounted noexec, musl): it looks every half minute, and apply writes the table', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, [], { before: among(`mount --bind /dev/null ${program.replace(/imds-guard$/, 'koffi.node')}`) });
  await daemon.ready();
  t.match(await daemon.status(), { events: { state: 'polling', because: /./ }, guard: { state: 'absent', because: /./ }, provedBlocked: true });
  t.match(await must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard'), /169\.254\.169\.254 counter .*drop/);
  t.ok(await dies(lab, lab.pods.ordinary));
});

t.test('without rights: unknown, with the reason, and never ready', async (t) => {
  const lab = await makeNode(t);
  if ((await lab.exec(lab.node, nobody[0] ?? '', [...nobody.slice(1), 'true'])).exitCode !== 0) return void t.comment('this machine does not let us become nobody');
  const daemon = start(t, lab, [], { before: nobody });
  const status = await daemon.statusThat(({ report }) => report !== undefined);
  t.match(status, { answer: 'unknown', provedBlocked: false, guard: { state: 'absent', because: /CAP_NET_ADMIN/ } });
  t.ok(await passes(lab, lab.pods.ordinary));
});

t.test('programs of iptables that fail, and work again later: unknown meanwhile, and blocked by the guard table all the same', async (t) => {
  const lab = await makeNode(t);
  const folder = shimFolder(t);
  writeFileSync(`${folder}.broken`, '');
  const daemon = start(t, lab, ['--no-probe'], { before: shims(folder) });
  const broken = await daemon.statusThat(({ counts }) => counts.checks.unknown + counts.checks.failed >= 2);
  t.match(broken, { answer: 'unknown', provedBlocked: false });
  t.ok(await dies(lab, lab.pods.ordinary));
  rmSync(`${folder}.broken`);
  await daemon.ready();
  t.ok(await hasRule(lab), 'nothing told it, and it tried again');
});

t.test('the xtables lock is held: the guard table blocks; when it is free the rules come', async (t) => {
  const lab = await makeNode(t);
  const holder = lab.start(lab.node, 'sh', ['-c', 'exec 9>/run/xtables.lock; flock 9; echo held; exec tail -f /dev/null']);
  await new Promise((held) => holder.stdout!.once('data', held));
  const daemon = start(t, lab, ['--backend', 'legacy', '--lock-wait', '1']);
  await daemon.until(({ msg }) => /xtables lock/.test(msg ?? ''));
  t.ok(await dies(lab, lab.pods.ordinary));
  holder.kill('SIGTERM');
  await holder;
  await daemon.statusThat(({ counts }) => counts.rules.length > 0 && counts.rules.every(({ present }) => present));
  t.match(await saved(lab, 'legacy'), /-i eni\+ -j DROP/);
});

t.test('a table of our name that another process owns: said, not fought over; when that process is gone it is ours', async (t) => {
  const lab = await makeNode(t);
  const owner = lab.start(lab.node, 'sh', ['-c', '{ echo "add table inet imds-guard { flags owner; }"; echo "list tables"; tail -f /dev/null; } | nft -i']);
  await new Promise((listed) => owner.stdout!.once('data', listed));
  const daemon = start(t, lab);
  await daemon.ready();
  t.match((await daemon.status()).guard, { state: 'absent', because: /another process owns table inet imds-guard/ });
  t.ok(await dies(lab, lab.pods.ordinary), 'by the rules of iptables');
  await must(lab, 'pkill', '-f', 'nft -i');
  await daemon.statusThat(({ guard }) => guard.state === 'owned-persistent', 60_000);
  await daemon.until(({ msg }) => msg === 'guard table: owned-persistent');
});

t.test('a full disk where the log goes: it works all the same', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, [], { before: ['sh', '-c', 'exec "$@" >/dev/full', 'sh'] });
  await daemon.statusThat(({ provedBlocked }) => provedBlocked);
  await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
  await daemon.statusThat(({ overwrites }) => overwrites.some(({ restoredAfterMs }) => restoredAfterMs !== undefined));
  t.ok(await hasRule(lab));
});

t.test('each overwrite is told: what, by whom, and whether a packet could have passed', async (t) => {
  const lab = await makeNode(t);
  for (const [args, couldHavePassed] of [[[], ['no', 'no']], [['--guard', 'none'], ['unknown', 'yes']]] as const) {
    const daemon = start(t, lab, args);
    await daemon.ready();
    await daemon.statusThat(({ counts }) => counts.rules.length > 0 && counts.rules.every(({ present }) => present));
    await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
    await must(lab, 'iptables-nft', '-t', 'mangle', '-F');
    const { overwrites, counts } = await daemon.statusThat((status) => status.overwrites.length >= 2 && status.overwrites.every(({ restoredAfterMs }) => restoredAfterMs !== undefined));
    t.same(overwrites.map((one) => one.couldHavePassed), couldHavePassed);
    t.match(overwrites[0], { lost: [/filter FORWARD: -A FORWARD -d 169\.254\.169\.254\/32 -i eni\+ -j DROP/], culprit: { name: 'iptables-nft' } });
    t.match(counts.overwritesByCulprit, { 'iptables-nft': 2 });
    t.ok(await hasRule(lab));
    await daemon.stop();
  }
});

t.test('a rule that is put back while a look is about to write it is there once all the same', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, ['--guard', 'none']);
  await daemon.ready();
  for (let count = 1; count <= 60; count++) {
    await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
    while (!(await hasRule(lab)));
  }
  const { overwrites } = await daemon.statusThat((status) => Object.values(status.counts.overwritesByCulprit)[0] === 60 && status.overwrites.every(({ restoredAfterMs }) => restoredAfterMs !== undefined));
  t.equal(overwrites.length, 60, 'each loss is told once');
  // The look that the last loss led to has ended when one more has been told and looked at.
  const { checks } = (await daemon.status()).counts;
  await must(lab, 'iptables-nft', '-t', 'mangle', '-F', 'POSTROUTING');
  await daemon.statusThat(({ counts }) => counts.checks.blocked >= checks.blocked + 2 || (counts.checks.blocked > checks.blocked && counts.rules.every(({ present }) => present)));
  t.equal((await saved(lab, 'nft', 'ipv4', 'filter')).match(/-i eni\+ -j DROP/g)?.length, 1);
});

t.test('a script that deletes the rule and inserts it again leaves it there once', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab);
  await daemon.ready();
  const rule = documented.replace('FORWARD ', '');
  for (let round = 0; round < 15; round++) await must(lab, 'sh', '-ec', `iptables-nft -D FORWARD ${rule}; iptables-nft -I FORWARD ${rule}`);
  const copies = async (): Promise<number> => (await saved(lab, 'nft', 'ipv4', 'filter')).match(/-i eni\+ -j DROP/g)?.length ?? 0;
  while ((await copies()) !== 1);
  t.equal((await daemon.status()).answer, 'blocked');
});

t.test('the guard table is switched off and on by SIGHUP', async (t) => {
  const lab = await makeNode(t);
  const config = `/run/guard-${process.pid}.yaml`;
  writeFileSync(config, 'guard: auto\n');
  const daemon = start(t, lab, ['--config', config]);
  await daemon.ready();
  const tables = (): Promise<string> => must(lab, 'nft', 'list', 'tables');
  writeFileSync(config, 'guard: none\n');
  process.kill(daemon.pid!, 'SIGHUP');
  await daemon.statusThat(({ guard }) => guard.because === 'switched off by the settings');
  t.notMatch(await tables(), 'imds-guard');
  t.ok(await dies(lab, lab.pods.ordinary), 'the other rules stay');
  writeFileSync(config, 'guard: auto\n');
  process.kill(daemon.pid!, 'SIGHUP');
  await daemon.statusThat(({ guard }) => guard.state === 'owned-persistent');
  t.match(await tables(), 'imds-guard');
});

t.test('a plain table that somebody emptied, of which no event came through, is filled again', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, ['--guard', 'plain']);
  await daemon.ready();
  process.kill(daemon.pid!, 'SIGSTOP');
  await overflow(lab);
  await nft(lab, 'flush table inet imds-guard\n');
  process.kill(daemon.pid!, 'SIGCONT');
  await daemon.until(({ msg }) => msg?.startsWith('the kernel threw events away') ?? false);
  const whole = async (): Promise<boolean> => ((await must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard')).match(/ drop$/gm)?.length ?? 0) === 2;
  while (!(await whole()));
  t.pass('both drops are there');
});

t.test('while we write to iptables-legacy, what stands in nf_tables is not ours to put back', async (t) => {
  const lab = await makeNode(t);
  await must(lab, 'iptables-nft', ...`-I ${documented}`.split(' '));
  const daemon = start(t, lab, ['--backend', 'legacy']);
  await daemon.statusThat(({ counts }) => counts.rules.length > 0 && counts.rules.every(({ present }) => present));
  await nft(lab, 'delete table ip filter\n');
  const { checks } = (await daemon.status()).counts;
  await daemon.statusThat(({ counts }) => counts.checks.blocked > checks.blocked);
  t.equal((await lab.exec(lab.node, 'nft', ['list', 'table', 'ip', 'filter'])).exitCode, 1, 'the operator took it away');
});

t.test('one who stands by takes over from one that hangs and lets the node lie open', async (t) => {
  const lab = await makeNode(t);
  const first = start(t, lab, ['--guard', 'none']);
  await first.ready();
  const second = start(t, lab, ['--guard', 'none', '--port', '16926']);
  await second.until(({ msg }) => msg?.startsWith('standing by') ?? false);
  await second.ready();
  process.kill(first.pid!, 'SIGSTOP');
  t.teardown(() => process.kill(first.pid!, 'SIGCONT'));
  await must(lab, 'nft', 'flush', 'ruleset');
  await second.until(({ msg }) => msg?.startsWith('who watches has let the node lie open') ?? false, { withinMs: 90_000 });
  while (!(await hasRule(lab)));
  t.ok(await dies(lab, lab.pods.ordinary));
});

t.test('rules of iptables-legacy, of whose loss no event tells, come back', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, ['--backend', 'legacy']);
  await daemon.statusThat(({ counts, answer }) => answer === 'blocked' && counts.rules.every(({ present }) => present));
  await iptables(lab, 'legacy', '-F');
  const { overwrites, legacy } = await daemon.statusThat((status) => status.overwrites.some(({ restoredAfterMs }) => restoredAfterMs !== undefined));
  t.match(overwrites[0], { lost: [/iptables-legacy ipv4 filter: .*-i eni\+ -j DROP is missing/], culprit: {}, couldHavePassed: 'no' });
  t.equal(overwrites[0]!.culprit.name, undefined, 'nobody is accused');
  t.ok(legacy.tables.includes('ipv4 filter') && legacy.pollMs! > 0, 'the poll and its period are in the status');
  t.match(await saved(lab, 'legacy', 'ipv4', 'filter'), /-i eni\+ -j DROP/);
});

t.test('who undoes us again and again is named as a rival', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab);
  await daemon.ready();
  for (let count = 0; count < 3; count++) {
    await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
    await daemon.statusThat(({ overwrites }) => overwrites.length === count + 1 && overwrites.every(({ restoredAfterMs }) => restoredAfterMs !== undefined));
  }
  t.match((await daemon.status()).contention, [{ culprit: 'iptables-nft', times: 3, doing: 'backing-off' }]);
});

t.test('so many changes at once that the kernel throws events away: it is told, and looks again', async (t) => {
  const lab = await makeNode(t);
  const daemon = start(t, lab, ['--guard', 'none']);
  await daemon.ready();
  process.kill(daemon.pid!, 'SIGSTOP');
  await must(lab, 'iptables-nft', ...`-D ${documented}`.split(' '));
  await overflow(lab);
  process.kill(daemon.pid!, 'SIGCONT');
  await daemon.until(({ msg }) => msg?.startsWith('the kernel threw events away') ?? false);
  await daemon.statusThat(({ events, counts }) => events.lost > 0 && counts.rules.every(({ present }) => present));
  t.ok(await hasRule(lab));
});
