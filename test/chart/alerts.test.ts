// The alert rules and the metrics that they ask for: checked by promtool where it is there, and against the daemon's own names anywhere.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chart } from './helm.ts';

const rules = join(chart, 'files/alerts.yaml');
const dashboard = join(chart, 'files/dashboard.json');
const noPromtool: string | false = spawnSync('promtool', ['--version']).error ? 'NO PROMTOOL: alert rules were NOT checked (Debian: prometheus)' : false;

function promtool(...args: readonly string[]): { readonly status: number | null; readonly text: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return { status, text: stdout + stderr };
}

t.test('promtool takes the rules', { skip: noPromtool }, async t => {
  const { status, text } = promtool('check', 'rules', rules);
  t.equal(status, 0, text);
});

/** What one node's agent tells, minute by minute. */
const series = (name: string, values: string): object => ({ series: name, values });
const stillThere = series('imds_guard_build_info{node="n",instance="i"}', '1x60');
const alerts: readonly { readonly name: string; readonly input: readonly object[]; readonly atMinutes: number; readonly fires: boolean }[] = [
  { name: 'PodsCanReachIMDS', input: [stillThere, series('imds_guard_answer{answer="open",node="n"}', '0x10 1x50')], atMinutes: 20, fires: true },
  { name: 'PodsCanReachIMDS', input: [stillThere, series('imds_guard_answer{answer="open",node="n"}', '0x60'), series('imds_guard_answer{answer="blocked",node="n"}', '1x60')], atMinutes: 20, fires: false },
  { name: 'PodIMDSUnknown', input: [stillThere, series('imds_guard_answer{answer="unknown",node="n"}', '1x60')], atMinutes: 20, fires: true },
  { name: 'PodIMDSUnknown', input: [stillThere, series('imds_guard_answer{answer="unknown",node="n"}', '1x2 0x60')], atMinutes: 20, fires: false },
  { name: 'PodIMDSNotLookedAt', input: [stillThere, series('imds_guard_checked_timestamp_seconds{node="n"}', '0x60')], atMinutes: 31, fires: true },
  { name: 'PodIMDSNotLookedAt', input: [stillThere, series('imds_guard_checked_timestamp_seconds{node="n"}', '0+60x60')], atMinutes: 31, fires: false },
  { name: 'ImdsGuardAbsent', input: [series('up{job="other"}', '1x60')], atMinutes: 20, fires: true },
  { name: 'ImdsGuardAbsent', input: [stillThere], atMinutes: 20, fires: false },
  { name: 'ImdsGuardRestartsOften', input: [stillThere, series('process_start_time_seconds{node="n",instance="i"}', '0+60x60')], atMinutes: 30, fires: true },
  { name: 'ImdsGuardRestartsOften', input: [stillThere, series('process_start_time_seconds{node="n",instance="other"}', '0+60x60')], atMinutes: 30, fires: false },
  { name: 'ImdsGuardContended', input: [stillThere, series('imds_guard_contention{culprit="felix",what="order",node="n"}', '4x60')], atMinutes: 40, fires: true },
  { name: 'ImdsGuardTableAbsent', input: [stillThere, series('imds_guard_guard_table{state="absent",node="n"}', '1x60')], atMinutes: 20, fires: true },
];

t.test('each alert fires when it should, and not when it should not', { skip: noPromtool }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'imds-guard-alerts-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const { name, input, atMinutes, fires } of alerts) {
    // promtool compares whole labels, and words: only whether one fires is asked, of a recording of ALERTS.
    const test = { rule_files: [rules], evaluation_interval: '1m', tests: [{ interval: '1m', input_series: input, promql_expr_test: [{ expr: `count(ALERTS{alertname="${name}",alertstate="firing"})`, eval_time: `${atMinutes}m`, exp_samples: fires ? [{ value: 1 }] : [] }] }] };
    writeFileSync(join(folder, 'test.yaml'), JSON.stringify(test));
    const { status, text } = promtool('test', 'rules', join(folder, 'test.yaml'));
    t.equal(status, 0, `${name} ${fires ? 'fires' : 'does not fire'}: ${text}`);
  }
});

t.test('every alert is tried, and every metric that is asked for is one of the daemon', async t => {
  const names = [...readFileSync(rules, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  t.same([...new Set(alerts.filter(({ fires }) => fires).map(({ name }) => name))].sort(), [...names].sort());
  const page = readFileSync(new URL('../../agent/commands/watch.md', import.meta.url), 'utf8');
  const told = new Set([...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name));
  const asked = [rules, dashboard].flatMap(file => [...readFileSync(file, 'utf8').matchAll(/\b(imds_guard_\w+|process_start_time_seconds)/g)].map(([name]) => name.replace(/_bucket$/, '')));
  t.ok(asked.length > 10);
  t.same([...new Set(asked)].filter(name => !told.has(name)), []);
});
