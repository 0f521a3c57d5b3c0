import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Log, type LogOptions, openLog } from '../../agent/effects/log.ts';

const folder = mkdtempSync(join(tmpdir(), 'imds-guard-log-'));
t.teardown(() => rmSync(folder, { recursive: true }));
let files = 0;

/** Every line, whole: JSON.parse would not take half of one. */
const linesOf = (text: string): Record<string, unknown>[] => {
  if (text !== '' && !text.endsWith('\n')) throw new Error(`no line end: ${text.slice(-80)}`);
  return text.split('\n').slice(0, -1).map((line) => JSON.parse(line));
};

async function toFile(t: Test, options: Partial<LogOptions> = {}): Promise<{ readonly log: Log; readonly lines: () => Record<string, unknown>[] }> {
  const name = join(folder, `${(files += 1)}.log`);
  const fd = openSync(name, 'w');
  t.teardown(() => closeSync(fd));
  const log = await openLog({ level: 'info', fd, ...options });
  t.teardown(() => log.close());
  return { log, lines: () => linesOf(readFileSync(name, 'utf8')) };
}

/** A pipe with a name: its reader can go, and another come. */
function pipe(t: Test): { readonly writer: number; readonly reader: () => Socket } {
  const name = join(folder, `${(files += 1)}.pipe`);
  spawnSync('mkfifo', [name]);
  const reader = (): Socket => {
    const socket = new Socket({ fd: openSync(name, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false });
    t.teardown(() => socket.destroy());
    return socket.setEncoding('utf8');
  };
  const first = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(name, constants.O_WRONLY);
  closeSync(first);
  t.teardown(() => closeSync(writer));
  return { writer, reader };
}

t.test('a line: when, how bad, what; and not the name of the node', async (t) => {
  const { log, lines } = await toFile(t);
  log.event('warn', 'a rule of ours was lost', { key: 'calico-node', culprit: { name: 'iptables "nft"\n' } });
  const [line] = lines();
  t.match(line, { level: 'warn', time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, pid: process.pid, msg: 'a rule of ours was lost', key: 'calico-node', culprit: { name: 'iptables "nft"\n' } });
  t.notOk('hostname' in line!);
  t.notOk(JSON.stringify(line).includes(hostname()) && hostname().length > 3);
});

t.test('it is there when the call is over', async (t) => {
  const { log, lines } = await toFile(t);
  for (const level of ['error', 'warn', 'info'] as const) {
    log.event(level, level);
    t.match(lines().at(-1), { level, msg: level });
  }
});

t.test('what is below the level is neither told nor counted', async (t) => {
  const { log, lines } = await toFile(t, { level: 'warn' });
  for (let at = 0; at < 3; at += 1) log.event('info', 'x');
  log.event('warn', 'x');
  log.close();
  t.match(lines(), [{ level: 'warn' }]);
  const debug = await toFile(t, { level: 'debug' });
  debug.log.event('debug', 'x');
  t.match(debug.lines(), [{ level: 'debug' }]);
});

t.test('repeats are told at the end, as one; another key, level or message is no repeat', async (t) => {
  const { log, lines } = await toFile(t);
  for (let at = 0; at < 5; at += 1) log.event('warn', 'lost', { key: 'a', at });
  log.event('warn', 'lost', { key: 'b' });
  log.event('error', 'lost', { key: 'a' });
  log.event('warn', 'found', { key: 'a' });
  t.match(lines().map(({ level, msg, key }) => [level, msg, key]), [['warn', 'lost', 'a'], ['warn', 'lost', 'b'], ['error', 'lost', 'a'], ['warn', 'found', 'a']]);
  log.close();
  t.match(lines().at(-1), { level: 'warn', msg: 'lost', key: 'a', at: 4, repeated: 4 });
  log.event('warn', 'after the end');
  t.equal(lines().length, 5);
});

t.test('repeats are told when their window is over, though nothing else happens', async (t) => {
  const { writer, reader } = pipe(t);
  const socket = reader();
  const log = await openLog({ level: 'info', fd: writer, windowMs: 20 });
  log.event('info', 'x');
  log.event('info', 'x');
  let text = '';
  while (!text.includes('repeated')) text += (await once(socket, 'data'))[0];
  t.match(linesOf(text), [{ msg: 'x', repeated: undefined }, { msg: 'x', repeated: 1 }]);
  log.close();
});

t.test('a full disk: lines are dropped and counted, and nothing is thrown', async (t) => {
  const fd = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(fd));
  const log = await openLog({ level: 'info', fd });
  for (let at = 0; at < 10; at += 1) log.event('info', `line ${at}`);
  t.equal(log.droppedLines(), 10);
  log.close();
});

t.test('a pipe that nobody holds any more, and then somebody does', async (t) => {
  const { writer, reader } = pipe(t);
  const first = reader();
  const log = await openLog({ level: 'info', fd: writer });
  log.event('info', 'one');
  t.match(linesOf((await once(first, 'data'))[0]), [{ msg: 'one' }]);
  await once(first.destroy(), 'close');
  for (const message of ['two', 'three']) log.event('info', message);
  t.equal(log.droppedLines(), 2);
  const second = reader();
  for (const message of ['four', 'five']) log.event('info', message);
  log.close();
  t.match(linesOf((await once(second, 'data'))[0]), [{ msg: 'four' }, { level: 'warn', droppedLines: 2 }, { msg: 'five' }], 'the loss is told, once');
  t.equal(log.droppedLines(), 2);
});

t.test('a reader that stalls: nobody waits for it, and it never sees half a line', async (t) => {
  const { writer, reader } = pipe(t);
  const socket = reader();
  const log = await openLog({ level: 'info', fd: writer });
  const fat = 'x'.repeat(5_000);
  // Nothing is read before the loop of events turns, and a pipe holds 64 KiB.
  for (let at = 0; at < 100; at += 1) log.event('info', `line ${at}`, { fat });
  const lost = log.droppedLines();
  t.ok(lost > 50 && lost < 100, `${lost} dropped`);
  let text = '';
  while (!text.includes('"the last"')) {
    text += (await once(socket, 'data'))[0];
    log.event('info', 'the last');
  }
  log.close();
  const lines = linesOf(text.slice(0, text.lastIndexOf('\n') + 1));
  t.same(lines.filter(({ fat }) => fat).map(({ msg }) => msg), Array.from({ length: 100 - lost }, (_, at) => `line ${at}`), 'what was written is whole, and in order');
  t.ok(lines.some(({ droppedLines }) => droppedLines === lost));
});

/** Logs when it is told to, and says on stderr what became of it. */
const PROGRAM = `
  import { openLog } from '${new URL('../../agent/effects/log.ts', import.meta.url)}';
  const log = await openLog({ level: 'info' });
  process.stdin.once('data', () => {
    for (let at = 0; at < 100; at += 1) log.event('error', 'line ' + at);
    log.close();
    process.stderr.write(String(log.droppedLines()));
    process.stdin.destroy();
  });
`;
const ENDS: readonly (readonly [string, 'pipe' | number])[] = [['a pipe that is closed', 'pipe'], ['a full disk', openSync('/dev/full', 'w')]];
for (const [what, stdout] of ENDS) {
  t.test(`a process whose standard output is ${what} lives on`, async (t) => {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', PROGRAM], { stdio: ['pipe', stdout, 'pipe'] });
    if (child.stdout) await once(child.stdout.destroy(), 'close');
    child.stdin!.write('now');
    let said = '';
    child.stderr!.setEncoding('utf8').on('data', (part: string) => (said += part));
    const [code, signal] = await once(child, 'close');
    t.match({ code, signal, said }, { code: 0, signal: null, said: '100' });
  });
}

t.test('a process that is killed has said what it had to say', async (t) => {
  const program = PROGRAM.replace('log.close();', "process.kill(process.pid, 'SIGKILL');");
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { input: 'now', encoding: 'utf8' });
  t.equal(signal, 'SIGKILL');
  t.match(linesOf(stdout).at(-1), { msg: 'line 99' });
});
