import t from 'tap';
import { setImmediate as soon } from 'node:timers/promises';
import type { NetworkProbe, ProbeReport } from '../../agent/core/probe/report.ts';
import { summary } from '../../agent/core/probe/summary.ts';
import type { Report } from '../../agent/core/report.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { blocked, look, makeWorld } from './watch-world/world.ts';

const exchange = (kind: 'open' | 'dropped') => ({ class: kind, because: kind, connected: kind === 'open' });
const network = (kind: 'open' | 'dropped', name: string): NetworkProbe => ({ pods: [], networkNamespace: name, family: 'ipv4', interfaces: ['eni1'], kind: 'eni+', otherWays: [], unruled: [], class: kind, v1: exchange(kind), v2: exchange(kind), reached: kind === 'open' });
const probed = (kind: 'open' | 'dropped', found = 1): ProbeReport => summary({ control: [{ ...network('open', 'node'), kind: 'node' }], networks: [network(kind, '/run/netns/web')], found, uncovered: [], skipped: [], tookMs: 1 });
const bypassed: Report = { ...blocked, answer: 'unknown', reason: 'MayBypassNetfilter', targets: [{ name: 'eni+ ipv4', family: 'ipv4', interface: 'eni+', from: '', reason: 'MayBypassNetfilter', answer: 'unknown', doubts: [{ why: 'a program' }] } as unknown as Report['targets'][number]] };

/** A world in which packets are sent when they are asked for, and come back when the test says what they met. */
function world(settings = DEFAULT_SETTINGS) {
  const rounds: { readonly all: boolean; readonly turn: number; end: (report: ProbeReport) => Promise<void>; fail: (why: string) => Promise<void> }[] = [];
  const made = makeWorld(settings, ({ all, turn }) =>
    new Promise((resolve, reject) => {
    rounds.push({ all, turn, end: async (report) => (resolve(report), soon()), fail: async (why) => (reject(new Error(why)), soon()) });
  }));
  return { ...made, rounds, say: () => { const { answer, reason, basis } = made.watcher.status(); return `${answer} ${reason} ${basis.join('+')}`; } };
}

t.test('packets are sent after the first look, and not before', async (t) => {
  const { watcher, looks, rounds, pass, say } = world();
  watcher.take('watching');
  await pass(5000);
  t.equal(rounds.length, 0, 'nobody knows yet what is there');
  await looks[0]!.end(look(blocked));
  await pass(2000);
  t.match(rounds, [{ all: false }]);
  t.equal(say(), 'blocked EveryPacketDropped rules');
  await rounds[0]!.end(probed('dropped'));
  t.equal(say(), 'blocked EveryPacketDropped rules+packets');
  t.match(watcher.status().counts.probes, { blocked: 1 });
});

t.test('a pod that gets through is told at once, whatever the rules say', async (t) => {
  const { watcher, looks, rounds, pass, say, logged } = world();
  watcher.take('watching');
  await pass(1000);
  await looks[0]!.end(look(blocked));
  await pass(2000);
  await rounds[0]!.end(probed('open'));
  t.equal(say(), 'open EvidenceDisagrees packets');
  t.match(logged.at(-1), { level: 'warn', message: 'pods and IMDS: open', fields: { reason: 'EvidenceDisagrees', message: /got through/ } });
});

t.test('what packets did before a change counts no more after it, and others follow soon', async (t) => {
  const { watcher, looks, rounds, pass, say } = world();
  watcher.take('watching');
  await pass(1000);
  await looks[0]!.end(look(blocked));
  await pass(2000);
  await rounds[0]!.end(probed('dropped'));
  await pass(60_000);
  t.equal(rounds.length, 1, 'nothing happened: none are sent');
  watcher.onLegacy([]);
  await pass(1000);
  t.ok(looks.length >= 2);
  await looks[1]!.end(look(bypassed));
  t.equal(say(), 'unknown MayBypassNetfilter ', 'the old ones died under other rules');
  t.match(watcher.status().observed, { state: 'not-tried', because: /changed/ });
  await pass(2000);
  t.equal(rounds.length, 2);
  await rounds[1]!.end(probed('dropped'));
  t.equal(say(), 'blocked EveryProbeDied packets');
});

t.test('a doubt that a look finds though nothing was told is not settled by packets from before it', async (t) => {
  const { watcher, looks, rounds, pass, say } = world({ ...DEFAULT_SETTINGS, resyncSeconds: 30 });
  watcher.take('watching');
  await pass(1000);
  await looks[0]!.end(look(blocked));
  await pass(2000);
  await rounds[0]!.end(probed('dropped'));
  await pass(40_000);
  t.equal(looks.length, 2, 'the resync');
  await looks[1]!.end(look(bypassed));
  t.equal(say(), 'unknown MayBypassNetfilter ');
  await pass(2000);
  t.equal(rounds.length, 2, 'others are sent');
});

t.test('where the rules do not tell, every pod is tried', async (t) => {
  const { watcher, looks, rounds, pass, say } = world();
  watcher.take('watching');
  await pass(1000);
  await looks[0]!.end(look(bypassed));
  await pass(2000);
  await rounds[0]!.end(probed('dropped', 9));
  t.match(rounds, [{ all: false }, { all: true }]);
  t.equal(say(), 'unknown MayBypassNetfilter ', 'not on the strength of some');
  await rounds[1]!.end(probed('dropped', 1));
  t.equal(say(), 'blocked EveryProbeDied packets');
});

t.test('a change while packets are under way makes them tell nothing', async (t) => {
  const { watcher, looks, rounds, pass, say } = world();
  watcher.take('watching');
  await pass(1000);
  await looks[0]!.end(look(bypassed));
  await pass(2000);
  watcher.onLegacy([]);
  await pass(1000);
  await looks.at(-1)!.end(look(bypassed));
  await rounds[0]!.end(probed('dropped'));
  t.equal(say(), 'unknown MayBypassNetfilter ');
});

t.test('packets that cannot be sent are said, and are no reason to stop', async (t) => {
  const { watcher, looks, rounds, pass, say } = world();
  watcher.take('watching');
  await pass(1000);
  await looks[0]!.end(look(blocked));
  await pass(2000);
  await rounds[0]!.fail('EPERM');
  t.equal(say(), 'blocked EveryPacketDropped rules');
  t.match(watcher.status(), { observed: { state: 'not-tried', because: 'EPERM' }, counts: { probes: { failed: 1 } } });
  await pass(DEFAULT_SETTINGS.probeSeconds * 1250);
  t.equal(rounds.length, 2, 'the next time again');
});

t.test('who stands by sends none, nor who is told not to', async (t) => {
  for (const [role, settings] of [['standing-by', DEFAULT_SETTINGS], ['watching', { ...DEFAULT_SETTINGS, probe: false }]] as const) {
    const { watcher, looks, rounds, pass } = world(settings);
    watcher.take(role, role === 'watching' ? undefined : { pid: 7 });
    await pass(1000);
    await looks[0]!.end(look(blocked));
    await pass(2_000_000);
    t.equal(rounds.length, 0, role);
    t.equal(watcher.status().observed.state, 'not-tried');
    watcher.stop();
  }
});
