// The rules script on a node, for real: what is missing there changes by what the rules get in, and never that they do.
import t from 'tap';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rulesScript } from '../../agent/core/userdata/rules-script.ts';
import { type Backend, type Before, apply, check, expected, families, fates, foreign, guard, must, restore, saved, scriptsOf, world } from '../kernel/guard.ts';
import { among, nobody, without } from '../kernel/surroundings.ts';
import { type Execed, type Lab, makeLab } from '../lab/lab.ts';

const folder = mkdtempSync(join(tmpdir(), 'imds-guard-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const script = join(folder, 'rules.sh');
writeFileSync(script, rulesScript());
chmodSync(folder, 0o755);

function run(lab: Lab, before: Before = []): Promise<Execed> {
  const [file = 'sh', ...args] = [...before, 'sh', script];
  return lab.exec(lab.node, file, args, { timeoutMs: 60_000 });
}

const nodeWithPods = () => makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6', strange: { kind: 'eni', prefix: 'pod' } }, hopLimit: 2 });

/** `nft|legacy family table rule`, sorted. */
async function written(lab: Lab, backend: Backend): Promise<readonly string[]> {
  const of = async (family: (typeof families)[number]): Promise<string[]> => {
    let table = '';
    return (await saved(lab, backend, family)).split('\n').flatMap((line) => {
      if (line.startsWith('*')) table = line.slice(1);
      return line.startsWith('-A') ? [`${family} ${table} ${line}`] : [];
    });
  };
  return (await Promise.all(families.map(of))).flat().sort();
}

/** What `imds-guard rules` says, for these families. */
async function asked(lab: Lab, of: readonly string[] = families): Promise<readonly string[]> {
  const { stdout } = await guard(lab, ['rules', '--output', 'json']);
  const { rules } = JSON.parse(stdout) as { rules: readonly { family: string; table: string; text: string }[] };
  return rules.filter(({ family }) => of.includes(family)).map(({ family, table, text }) => `${family} ${table} ${text}`).sort();
}

const LEGACY_ONLY = without('iptables', 'ip6tables', '*tables-nft*', '*tables-save', '*tables-restore', 'nft');
/** As on AL2: `iptables` is the legacy one. */
const LEGACY_BY_NAME = among('for family in iptables ip6tables; do mount --bind "$(readlink -f "$(command -v $family-legacy)")" "$(readlink -f "$(command -v $family)")"; done');

interface Case {
  readonly what: string;
  readonly before: Before;
  readonly backend: Backend;
  readonly families: readonly string[];
  readonly table: boolean;
  readonly says: RegExp;
  readonly complains?: RegExp;
}
const cases: readonly Case[] = [
  { what: 'everything is there', before: [], backend: 'nft', families, table: true, says: /^imds-guard: ipv4: in place, by iptables\nimds-guard: ipv6: in place, by ip6tables\n$/ },
  { what: 'only iptables-nft', before: without('iptables', 'ip6tables', '*-legacy*', 'nft'), backend: 'nft', families, table: false, says: /by iptables-nft\n.*by ip6tables-nft\n$/ },
  { what: 'only iptables-legacy', before: LEGACY_ONLY, backend: 'legacy', families, table: false, says: /by iptables-legacy\n.*by ip6tables-legacy\n$/ },
  { what: 'iptables-legacy, and nft beside it', before: without('iptables', 'ip6tables', '*tables-nft*'), backend: 'legacy', families, table: true, says: /by iptables-legacy\n.*by ip6tables-legacy\n$/ },
  { what: 'no iptables-restore: rule by rule', before: without('*tables*-restore'), backend: 'nft', families, table: true, says: /by iptables\n.*by ip6tables\n$/, complains: /^(.*ip6?tables-restore: not found\n){2}$/ },
  { what: 'no ip6tables, but nft', before: without('ip6tables*'), backend: 'nft', families: ['ipv4'], table: true, says: /ipv6: in place, by nft alone\n$/ },
  { what: 'neither ip6tables nor nft', before: without('ip6tables*', 'nft'), backend: 'nft', families: ['ipv4'], table: false, says: /WARNING: no rules for IPv6/ },
];

for (const { what, before, backend, families: ofFamilies, table, says, complains = /^$/ } of cases) {
  await t.test(what, async (t) => {
    const lab = await nodeWithPods();
    t.teardown(lab.remove);
    const pods = Object.values(lab.pods);
    t.same(await fates(lab, ['node', ...pods], 5000), expected(pods, 'reached'), 'before: everybody reaches IMDS');

    const ran = await run(lab, before);
    t.match(ran, { exitCode: 0, stderr: complains, stdout: says });
    const blocked = { ...expected(pods, 'timeout'), ...(ofFamilies.length === 1 && !table ? { 'six 6 v1': 'reached', 'six 6 v2': 'reached' } : {}) };
    t.same(await fates(lab, ['node', ...pods]), blocked);
    t.same(await written(lab, backend), await asked(lab, ofFamilies), 'the rules that imds-guard rules prints');
    t.same(await written(lab, backend === 'nft' ? 'legacy' : 'nft'), [], 'and none by the other iptables');
    t.equal((await must(lab, 'nft', 'list', 'tables')).includes('inet imds-guard'), table);
    if (ofFamilies.length === 2) t.match(await check(lab), { exitCode: 0, value: { answer: 'blocked' } });

    const once = await world(lab);
    t.match(await run(lab, before), { exitCode: 0, stderr: '', stdout: ran.stdout }, 'a second time');
    t.equal(await world(lab), once, 'writes nothing');

    const applied = await apply(lab, ['--backend', backend]);
    t.match(applied, { exitCode: 0, value: { answer: 'blocked', problems: [], left: [] } });
    const sent = applied.value.steps.flatMap((step) => (step.do === 'restore' && ofFamilies.includes(step.family) ? [step.payload] : [])).join('');
    t.notMatch(sent, /-i eni\+|-o vlan\+|-[AI] FORWARD( 1)? -d \S+ -m comment/, 'the agent takes them as its own; it adds those of interfaces that it finds');
    t.equal(scriptsOf(applied.value.steps).length, 1, 'and puts its whole table in the place of the bare one');
    const whole = await world(lab);
    t.match(await run(lab, before), { exitCode: 0 });
    t.equal(await world(lab), whole, 'which the script leaves alone');
  });
}

await t.test('a firewall that is there stays as it is, and the rules come before what it accepts', async (t) => {
  for (const [backend, before] of [['nft', []], ['legacy', LEGACY_BY_NAME]] as const) {
    const lab = await nodeWithPods();
    t.teardown(lab.remove);
    const pods = Object.values(lab.pods);
    for (const family of families) {
      for (const lines of Object.values(foreign(family))) await restore(lab, backend, lines, family);
      await restore(lab, backend, ['*filter', '-I FORWARD 1 -j ACCEPT', 'COMMIT'], family);
    }
    const was = await written(lab, backend);
    t.match(await run(lab, before), { exitCode: 0, stderr: '' });
    t.same(await fates(lab, ['node', ...pods]), expected(pods, 'timeout'), backend);
    const ours = await asked(lab);
    t.same((await written(lab, backend)).filter((line) => !ours.includes(line)), was, 'not a rule of others has changed');
  }
});

await t.test('where the rules cannot go in, it says so and fails, after it has tried again', async (t) => {
  const lab = await nodeWithPods();
  t.teardown(lab.remove);
  const [none, forbidden] = await Promise.all([run(lab, without('iptables*')), run(lab, nobody)]);
  t.match(none, { exitCode: 1, stdout: /^imds-guard: FAILED: there are no rules that keep pods from IMDS; why is above\. kubelet does not start/m });
  t.match(forbidden, { exitCode: 1, stdout: /ipv4: iptables-legacy could not put all rules in place[\s\S]*FAILED/, stderr: /Permission denied|not permitted/ });
  t.match(none.stdout, /journalctl -u imds-guard-rules[\s\S]*systemctl start imds-guard-rules/, 'and what to do');
});
