import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { metricsText } from '../../agent/core/metrics-text.ts';
import type { WatchStatus } from '../../agent/core/watch-status.ts';
import { readMetrics } from './prometheus-text.ts';
import { statusOf } from './watch-status.ts';

/** `name{label=value,…}` → value, of one family. */
function seriesOf(status: WatchStatus, name: string): Record<string, number> {
  const family = readMetrics(metricsText(status)).get(name);
  if (!family) throw new Error(`no ${name}`);
  return Object.fromEntries(family.samples.map((sample) => [Object.values(sample.labels).join(' '), sample.value]));
}

const withCounts = (counts: Partial<WatchStatus['counts']>): WatchStatus => statusOf({ counts: { ...statusOf().counts, ...counts } });

t.test('a node that is blocked', async (t) => {
  t.same(seriesOf(statusOf(), 'imds_guard_answer'), { blocked: 1, open: 0, unknown: 0 });
  t.same(seriesOf(statusOf(), 'imds_guard_guard_table'), { 'owned-persistent': 1, owned: 0, plain: 0, absent: 0 });
  t.same(seriesOf(statusOf(), 'imds_guard_blocked_packets_total'), { ipv4: 17, ipv6: 0 });
  t.same(seriesOf(statusOf(), 'imds_guard_checks_total'), { blocked: 40, open: 2, unknown: 1, failed: 0 });
  t.same(seriesOf(statusOf(), 'imds_guard_overwrites_total'), { 'calico-node': 3 });
  t.same(seriesOf(statusOf(), 'imds_guard_rule_present'), { 'ipv4 filter FORWARD documented': 1, 'ipv4 mangle FORWARD out-of-reach': 1 });
  t.same(seriesOf(statusOf(), 'imds_guard_build_info'), { '1.2.3': 1 });
  const alone = { proved_blocked: 1, checked_timestamp_seconds: Date.UTC(2026, 10, 22, 21) / 1000, events_received_total: 1200, events_relevant_total: 30, events_lost_total: 1 };
  for (const [name, value] of Object.entries(alone)) t.same(seriesOf(statusOf(), `imds_guard_${name}`), { '': value }, name);
  t.same(seriesOf(statusOf(), 'process_start_time_seconds'), { '': Date.UTC(2026, 10, 22, 20) / 1000 + 0.25 });
});

t.test('a daemon that has not looked yet claims nothing', async (t) => {
  const { checkedAt, ...unchecked } = statusOf({ answer: 'unknown', reason: 'CouldNotLook', provedBlocked: false, guard: { state: 'absent', because: 'nft is not installed' } });
  t.ok(checkedAt);
  t.same(seriesOf(unchecked, 'imds_guard_answer'), { blocked: 0, open: 0, unknown: 1 });
  t.same(seriesOf(unchecked, 'imds_guard_proved_blocked'), { '': 0 });
  for (const name of ['checked_timestamp_seconds', 'blocked_packets_total']) t.same(seriesOf(unchecked, `imds_guard_${name}`), {}, `${name} has no sample, not a 0`);
});

t.test('a name is what its process chose, and comes through as it is', async (t) => {
  const hostile = ['quote"d', 'back\\slash', 'new\nline', 'both\\n"', 'trailing\\', '"} 1\nimds_guard_answer{answer="open"} 1', 'ünïcödé', '名前', '🦊', '\u202egnp.exe', '', ' ', 'a,b="c"', '\x00\x1b[31m', '\r', '\u2028', '#', '{}', '__proto__'];
  const names = seriesOf(withCounts({ overwritesByCulprit: Object.fromEntries(hostile.map((name, at) => [name, at])) }), 'imds_guard_overwrites_total');
  t.same(names, Object.fromEntries(hostile.map((name, at) => [name, at])));
});

t.test('names that no wire can tell apart are one series', async (t) => {
  t.same(seriesOf(withCounts({ overwritesByCulprit: { '\ud800': 1, '\udfff': 2, '\ufffd': 4 } }), 'imds_guard_overwrites_total'), { '\ufffd': 7 });
});

t.test('a process that changes its name every time fills twenty series and no more', async (t) => {
  const many = (count: number): Record<string, number> => Object.fromEntries(Array.from({ length: count }, (_, at) => [`name-${at}`, at + 1]));
  const names = seriesOf(withCounts({ overwritesByCulprit: many(1000) }), 'imds_guard_overwrites_total');
  t.equal(Object.keys(names).length, 21);
  t.equal(names['other'], (1000 * 1001) / 2 - (20 * 21) / 2, 'nothing is lost');
  t.match(names, seriesOf(withCounts({ overwritesByCulprit: many(20) }), 'imds_guard_overwrites_total'), 'who came first keeps its series, so that no counter falls');
  t.same(Object.keys(seriesOf(withCounts({ overwritesByCulprit: { other: 1, ...many(1000) } }), 'imds_guard_overwrites_total')).filter((name) => name === 'other'), ['other'], 'one may be called other');
  t.equal(Object.keys(seriesOf(withCounts({ errors: many(50) }), 'imds_guard_errors_total')).length, 21);
});

t.test('contention: one series for each culprit and what it takes, bounded too', async (t) => {
  const one = { culprit: 'felix', what: 'ipv4 filter FORWARD', times: 7, since: '2026-11-22T20:30:00Z', doing: 'left' } as const;
  t.same(seriesOf(statusOf({ contention: [one, { ...one, what: 'ipv6 filter FORWARD', times: 2 }] }), 'imds_guard_contention'), { 'felix ipv4 filter FORWARD': 7, 'felix ipv6 filter FORWARD': 2 });
  const crowd = Array.from({ length: 30 }, (_, at) => ({ ...one, culprit: `c${at}`, times: 1 }));
  t.equal(seriesOf(statusOf({ contention: crowd }), 'imds_guard_contention')['other other'], 10);
});

t.test('rules of one place are one series: 0 when any of them is missing', async (t) => {
  const place = { family: 'ipv4', table: 'filter', chain: 'FORWARD', layer: 'documented' };
  for (const present of [[true, true], [true, false], [false, true]]) {
    const rules = present.map((one) => ({ ...place, present: one }));
    t.same(seriesOf(withCounts({ rules }), 'imds_guard_rule_present'), { 'ipv4 filter FORWARD documented': present.every(Boolean) ? 1 : 0 });
  }
});

t.test('the histogram rises, and ends with all of them', async (t) => {
  const family = readMetrics(metricsText(statusOf())).get('imds_guard_repair_seconds')!;
  const buckets = family.samples.filter(({ name }) => name.endsWith('_bucket'));
  t.equal(family.type, 'histogram');
  t.same(buckets.map(({ labels, value }) => [labels['le'], value]), [['0.01', 1], ['0.1', 2], ['1', 2], ['+Inf', 3]]);
  t.same(buckets.map(({ value }) => value), buckets.map(({ value }) => value).sort((a, b) => a - b), 'cumulative');
  t.same(family.samples.slice(-2).map(({ name, value }) => [name, value]), [['imds_guard_repair_seconds_sum', 4.5], ['imds_guard_repair_seconds_count', 3]]);
});

t.test('every name is told by convention', async (t) => {
  for (const [name, { type, help }] of readMetrics(metricsText(statusOf()))) {
    t.match(name, /^(imds_guard|process)_[a-z_]+$/);
    t.equal(name.endsWith('_total'), type === 'counter', `${name} is a ${type}`);
    t.match(help, /^[A-Z].*\.$/, name);
  }
});

t.test('the page lists every metric, with its type and labels, and no other', async (t) => {
  const page = readFileSync(new URL('../../agent/commands/watch.md', import.meta.url), 'utf8');
  const listed = [...page.matchAll(/^\| `((?:imds_guard|process)_\w+)` \| (\w+) \| ([^|]*) ?\|/gm)].map(([, name, type, labels]) => `${name} ${type} ${[...labels!.matchAll(/\w+/g)].join(' ')}`.trim());
  const contended = statusOf({ contention: [{ culprit: 'felix', what: 'FORWARD', times: 1, since: '', doing: 'left' }], counts: { ...statusOf().counts, errors: { look: 1 } } });
  const given = [...readMetrics(metricsText(contended))].map(([name, { type, samples }]) => `${name} ${type} ${Object.keys(samples[0]!.labels).filter((label) => label !== 'le').join(' ')}`.trim());
  t.same(listed.sort(), given.sort());
});

const promtool = spawnSync('promtool', ['--version']);
t.test('promtool finds nothing to say', { skip: promtool.error ? 'NO PROMTOOL here: Prometheus itself has not read these metrics' : false }, async (t) => {
  const busy = statusOf({ contention: [{ culprit: 'a"b\\c\nd', what: 'ipv4 filter FORWARD', times: 7, since: '2026-11-22T20:30:00Z', doing: 'left' }] });
  for (const status of [statusOf(), busy, withCounts({ overwritesByCulprit: { '\x00"\\\n名': 1, '\ud800': 1, '\udfff': 1 }, errors: { 'time-out': 2 } })]) {
    const { status: exit, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: metricsText(status), encoding: 'utf8' });
    t.same({ exit, stdout, stderr }, { exit: 0, stdout: '', stderr: '' });
  }
});
