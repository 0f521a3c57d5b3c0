// What becomes of tables of iptables-legacy is noticed, in a network namespace of our own and by the kernel's own words.
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { type LegacyTable, startLegacyPoll } from '../../agent/effects/legacy-poll.ts';
import { LegacyTables } from '../../agent/node-iptables/src/kernel/legacy-info.ts';
import { hasRules } from '../../agent/node-iptables/src/netlink/x-tables.ts';

const legacy = (program: 'iptables' | 'ip6tables', ...args: readonly string[]): string => execFileSync(`${program}-legacy`, ['-w', ...args], { encoding: 'utf8' });
const names = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
const filter = { family: 'ipv4', table: 'filter' };
const nat = { family: 'ipv4', table: 'nat' };

async function poll(t: Test, procNet = '/proc/net') {
  const told: (readonly LegacyTable[])[] = [];
  const troubles: unknown[] = [];
  let hear = (): void => {};
  const poll = await startLegacyPoll({ pollMs: 2, procNet, onChange: (tables) => (told.push(tables), hear()), onTrouble: (error) => (troubles.push(error), hear()) });
  t.teardown(poll.stop);
  const next = async (): Promise<readonly LegacyTable[]> => {
    if (told.length === 0) await new Promise<void>((heard) => (hear = heard));
    return told.shift() ?? [];
  };
  return { ...poll, next, troubles };
}

/** Other tests leave tables behind, and so does this one: a table that was asked for stays as long as its network namespace. */
if (process.env['OWN_NETWORK'] === undefined) await t.spawn('unshare', ['-n', process.execPath, fileURLToPath(import.meta.url)], { env: { ...process.env, OWN_NETWORK: 'yes' } }, 'in a network namespace of its own');
else everything();

function everything(): void {
  execFileSync('ip', ['link', 'set', 'lo', 'up']);

  t.test('a node that does not use iptables-legacy is left so', async (t) => {
    const { next, tables, pollMs } = await poll(t);
    t.same(tables(), []);
    t.equal(pollMs(), 20, 'and is looked at rarely');
    legacy('ip6tables', '-t', 'raw', '-S');
    t.same(await next(), [{ family: 'ipv6', table: 'raw' }], 'until somebody does');
    t.same(tables(), [{ family: 'ipv6', table: 'raw' }]);
    t.equal(names('/proc/net/ip_tables_names'), '');
    t.equal(names('/proc/net/ip6_tables_names'), 'raw\n');
  });

  t.test('the kernel is asked for what iptables-legacy says', async (t) => {
    const kernel = await LegacyTables.open();
    t.teardown(() => kernel.close());
    legacy('iptables', '-S');
    legacy('iptables', '-t', 'nat', '-S');
    const empty = kernel.info('ipv4', 'filter')!;
    t.match(empty, { hooks: 0b01110, entries: 4 });
    t.equal(hasRules(empty), false);
    legacy('iptables', '-A', 'FORWARD', '-j', 'DROP');
    const info = kernel.info('ipv4', 'filter')!;
    t.equal(info.entries, 5);
    t.equal(hasRules(info), true);
    t.equal(kernel.entries('ipv4', 'filter', info.size)?.length, info.size);
    t.equal(kernel.entries('ipv4', 'filter', empty.size), undefined, 'of the size that it had');
    t.equal(kernel.info('ipv4', 'nothing'), undefined);
    t.equal(kernel.info('ipv4', `filter${'x'.repeat(40)}`), undefined);
    legacy('iptables', '-F', 'FORWARD');
  });

  for (const [family, program, source] of [['ipv4', 'iptables', '10.0.0.'], ['ipv6', 'ip6tables', 'fd00::']] as const) {
    t.test(`${family}: every change of a table is told, and nothing else`, async (t) => {
      const change = (...args: readonly string[]): string => legacy(program, ...args);
      change('-S');
      const { next, pollMs } = await poll(t);
      t.equal(pollMs(), 20);
      const changes: readonly (readonly string[])[] = [
        ['-A', 'FORWARD', '-s', `${source}1`, '-j', 'DROP'],
        ['-I', 'FORWARD', '1', '-j', 'ACCEPT'],
        ['-D', 'FORWARD', '1'],
        ['-R', 'FORWARD', '1', '-s', `${source}2`, '-j', 'DROP'],
        ['-R', 'FORWARD', '1', '-s', `${source}2`, '-j', 'ACCEPT'],
        ['-R', 'FORWARD', '1', '-s', `${source}2`, '-m', 'limit', '--limit', '1/s', '-j', 'ACCEPT'],
        ['-R', 'FORWARD', '1', '-s', `${source}2`, '-m', 'limit', '--limit', '2/s', '-j', 'ACCEPT'],
        ['-P', 'FORWARD', 'DROP'],
        ['-P', 'FORWARD', 'ACCEPT'],
        ['-N', 'MINE'],
        ['-E', 'MINE', 'YOUR'],
        ['-X', 'YOUR'],
      ];
      for (const args of changes) {
        change(...args);
        t.same(await next(), [{ family, table: 'filter' }], args.join(' '));
      }
      t.equal(pollMs(), 2);
      change('-F', 'FORWARD');
      await next();
      t.equal(pollMs(), 20);
    });
  }

  t.test('packets that are counted change nothing, nor does what a match remembers of them', async (t) => {
    for (const match of [[], ['-m', 'limit', '--limit', '1/s'], ['-m', 'quota', '--quota', '100'], ['-m', 'statistic', '--mode', 'nth', '--every', '3', '--packet', '0'], ['-m', 'hashlimit', '--hashlimit-name', 'x', '--hashlimit-upto', '1/s'], ['-m', 'recent', '--set']]) legacy('iptables', '-A', 'OUTPUT', '-o', 'lo', '-p', 'udp', ...match);
    t.teardown(() => legacy('iptables', '-F', 'OUTPUT'));
    const { next } = await poll(t);
    const before = legacy('iptables', '-vS', 'OUTPUT');
    const socket = createSocket('udp4').bind(0, '127.0.0.1');
    await once(socket, 'listening');
    for (let packets = 0; packets < 20; packets += 1) {
      socket.send('x', socket.address().port, '127.0.0.1');
      await once(socket, 'message');
    }
    socket.close();
    t.not(legacy('iptables', '-vS', 'OUTPUT'), before);
    // The next look compares all tables: only this one may be told.
    legacy('iptables', '-t', 'nat', '-N', 'MINE');
    t.same(await next(), [nat]);
    legacy('iptables', '-t', 'nat', '-X', 'MINE');
    t.same(await next(), [nat]);
  });

  t.test('a long table is compared by its size each time, and read rarely', async (t) => {
    const rules = Array.from({ length: 5000 }, (_, at) => `-A FORWARD -s 10.1.${at >> 8}.${at & 255} -j DROP`);
    execFileSync('iptables-legacy-restore', ['-w', '-n'], { input: ['*filter', ...rules, 'COMMIT', ''].join('\n') });
    t.teardown(() => legacy('iptables', '-F', 'FORWARD'));
    const { next } = await poll(t);
    legacy('iptables', '-I', 'FORWARD', '-j', 'ACCEPT');
    t.same(await next(), [filter]);
    legacy('iptables', '-D', 'FORWARD', '1');
    t.same(await next(), [filter]);
  });

  t.test('tables that cannot be looked at are told of once', async (t) => {
    const procNet = mkdtempSync(join(tmpdir(), 'proc-net-'));
    t.teardown(() => rmSync(procNet, { recursive: true }));
    mkdirSync(join(procNet, 'ip_tables_names'));
    const { troubles, next, tables } = await poll(t, procNet);
    t.match(troubles, [{ code: 'EISDIR' }]);
    t.same(tables(), []);
    rmSync(join(procNet, 'ip_tables_names'), { recursive: true });
    execFileSync('cp', ['/proc/net/ip_tables_names', procNet]);
    t.ok((await next()).length > 0, 'it goes on');
    t.equal(troubles.length, 1);
  });
}
