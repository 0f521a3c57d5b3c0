import t from 'tap';
import { blocked, look, makeWorld, open } from './watch-world/world.ts';

const missing = { do: 'restore', family: 'ipv4', backend: 'nft', table: 'filter', payload: '', because: ['-A FORWARD … is missing'] } as const;

t.test('a fresh daemon says unknown until its first look has ended', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  t.match(watcher.status(), { answer: 'unknown', reason: 'NotLookedYet', provedBlocked: false });
  watcher.take('watching');
  await pass(100);
  t.equal(looks.length, 1);
  t.equal(looks[0]!.write, true);
  t.match(watcher.status(), { answer: 'unknown', reason: 'NotLookedYet' });
  await looks[0]!.end(look(blocked));
  t.match(watcher.status(), { answer: 'blocked', provedBlocked: true });
});

t.test('a look that fails makes the answer unknown, whatever it was before; it is tried again, and the answer comes back', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(blocked));
  watcher.onEventsLost();
  await pass(5000);
  await looks[1]!.end({ ok: false, because: 'apply: iptables-nft-save gave no answer' });
  t.match(watcher.status(), { answer: 'unknown', reason: 'CouldNotLook', message: /gave no answer/, provedBlocked: true });
  for (let minute = 0; looks.length < 6; minute++) {
    if (minute > 10) return t.fail('it gives up');
    await pass(60_000);
    if (looks.length < 6) await looks.at(-1)!.end({ ok: false, because: 'still' });
  }
  await looks.at(-1)!.end(look(blocked));
  t.match(watcher.status(), { answer: 'blocked', message: '' });
  t.equal(watcher.status().counts.checks.failed, 4);
});

t.test('a change that cannot be looked at for ten seconds makes the answer unknown: a look that hangs', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(blocked));
  watcher.onLegacy([{ family: 'ipv4', table: 'filter' }]);
  await pass(5000);
  t.equal(looks.length, 2);
  t.match(watcher.status(), { answer: 'blocked' });
  watcher.onLegacy([{ family: 'ipv4', table: 'filter' }]);
  await pass(10_001);
  t.match(watcher.status(), { answer: 'unknown', reason: 'ChangedSince' });
  t.equal(looks.length, 2, 'one look at a time');
  await looks[1]!.end(look(blocked));
  await pass(30_000);
  t.equal(looks.length, 3, 'and then the one for what changed meanwhile');
  await looks[2]!.end(look(blocked));
  t.match(watcher.status(), { answer: 'blocked' });
  t.match(watcher.alive(), { ok: true });
});

t.test('a look that is under way has seen nothing yet', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(blocked));
  watcher.onLegacy([{ family: 'ipv4', table: 'filter' }]);
  await pass(10_100);
  t.equal(looks.length, 2);
  t.match(watcher.status(), { answer: 'unknown', reason: 'ChangedSince' }, 'one change, one look that hangs');
  await looks[1]!.end(look(blocked));
  t.match(watcher.status(), { answer: 'blocked' });
});

t.test('a look that never ends is told by /healthz', async (t) => {
  const { watcher, pass } = makeWorld();
  watcher.take('watching');
  await pass(6 * 60_000);
  t.match(watcher.alive(), { ok: false, because: /a look has been running for/ });
});

t.test('rules that cannot be written leave the answer to what was read, are told once, and are tried again', async (t) => {
  const { watcher, looks, logged, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(open, ['another program holds the xtables lock']));
  t.match(watcher.status(), { answer: 'open', provedBlocked: false });
  t.match(logged.map(({ message }) => message), ['watching', /guard table/, 'pods and IMDS: open', /xtables lock/]);
  await pass(2000);
  t.equal(looks.length, 2);
  await looks[1]!.end(look(blocked));
  await pass(60_000);
  t.equal(looks.length, 2, 'then there is nothing to try');
});

t.test('the clock on the wall jumps a day, forth and back: no look is early, late or left out', async (t) => {
  const { watcher, looks, setClocks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(blocked));
  setClocks(86_400_000);
  await pass(300_000);
  t.equal(looks.length, 1);
  setClocks(-86_400_000);
  watcher.onEventsLost();
  await pass(2000);
  t.equal(looks.length, 2);
  await looks[1]!.end(look(blocked));
  t.match(watcher.status(), { answer: 'blocked' });
  await pass(800_000);
  t.equal(looks.length, 3, 'the resync comes');
});

t.test('who stands by looks and writes nothing; when it is its turn it writes', async (t) => {
  const { watcher, looks, guard, pass } = makeWorld();
  watcher.take('standing-by', { pid: 77 });
  await pass(100);
  t.equal(looks[0]!.write, false);
  t.equal(guard.kept, 0);
  await looks[0]!.end(look(open));
  t.match(watcher.status(), { role: 'standing-by', leader: { pid: 77 }, answer: 'open', guard: { state: 'absent' } });
  watcher.take('watching');
  t.equal(guard.kept, 1);
  t.equal(watcher.status().leader, undefined);
  await pass(3000);
  t.equal(looks.at(-1)!.write, false, 'it reads');
  await looks.at(-1)!.end(look(open, [], [missing], true));
  t.equal(looks.at(-1)!.write, true, 'and writes what is missing');
});

t.test('a guard table that does not stand any more, though no event told, is made again', async (t) => {
  const { watcher, guard, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(blocked));
  guard.standing = false;
  await pass(20_000);
  t.equal(guard.kept, 2);
});

t.test('told to stop in the middle of a look, it stops the look, and starts none', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  watcher.stop();
  t.ok(looks[0]!.signal.aborted);
  await looks[0]!.end({ ok: false, because: 'aborted' });
  watcher.onEventsLost();
  await pass(3_600_000);
  t.equal(looks.length, 1);
});

t.test('new settings are looked with at once', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  const { settings } = looks[0]!;
  await looks[0]!.end(look(blocked));
  watcher.replaceSettings({ ...settings, interfaces: ['foo+'] });
  await pass(2000);
  t.same(looks[1]!.settings.interfaces, ['foo+']);
});

t.test('a later look reads first, and writes only when there is something to write', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end(look(blocked));
  watcher.onEventsLost();
  await pass(2000);
  t.same(looks.map(({ write }) => write), [true, false]);
  await looks[1]!.end(look(blocked, [], [], true));
  t.equal(looks.length, 2);
  watcher.onEventsLost();
  await pass(10_000);
  await looks[2]!.end(look(blocked, [], [missing], true));
  t.same(looks.map(({ write }) => write), [true, false, false, true]);
  await looks[3]!.end(look(blocked, [], [missing]));
  watcher.onEventsLost();
  await pass(30_000);
  await looks[4]!.end(look(open, [], [], true));
  t.equal(looks[5]!.write, true, 'also where a packet passes: positions may have to be taken again');
});

t.test('who stands by takes over from one who lets the node lie open, and not before', async (t) => {
  const { watcher, looks, leader, pass } = makeWorld();
  watcher.take('standing-by', { pid: 77 });
  await pass(100);
  await looks[0]!.end(look(open, [], [missing], true));
  t.notOk(leader.fails, 'it may be about to');
  for (let at = 1; !leader.fails; at++) {
    if (at > 20) return t.fail('it waits for ever');
    await pass(4000);
    if (looks.length > at) await looks[at]!.end(look(open, [], [missing], true));
  }
  const other = makeWorld();
  other.watcher.take('standing-by', { pid: 77 });
  await other.pass(100);
  await other.looks[0]!.end(look(open, [], [missing], true));
  await other.pass(4000);
  await other.looks[1]!.end(look(blocked));
  await other.pass(600_000);
  for (const one of other.looks.slice(2)) await one.end(look(open, [], [missing], true));
  t.notOk(other.leader.fails, 'one who does his work');
});

t.test('what could not be read is not said to be there', async (t) => {
  const { watcher, looks, pass } = makeWorld();
  watcher.take('watching');
  await pass(100);
  await looks[0]!.end({ ...look(open), unread: ['ipv4'] } as ReturnType<typeof look>);
  const { rules } = watcher.status().counts;
  t.ok(rules.length > 0);
  t.ok(rules.every(({ family, present }) => present === (family === 'ipv6')));
});
