import t from 'tap';
import { observedFromFiles } from '../../agent/core/from-files.ts';
import type { Observed } from '../../agent/core/observed.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { npdLine, reportText } from '../../agent/core/text-report.ts';
import { verdict } from '../../agent/core/verdict.ts';
import { type Tables, dump } from './ask.ts';

const GUARD = 'table inet imds-guard {\n\tchain forward {\n\t\ttype filter hook forward priority -200; policy accept;\n\t\tip daddr 169.254.169.254 drop\n\t\tip6 daddr fd00:ec2::254 drop\n\t}\n}\n';
const seen = (tables: Tables, ...native: readonly string[]): Observed =>
  observedFromFiles([{ name: 'saved', text: dump(tables) }, ...native.map((text, at) => ({ name: `nft ${at}`, text }))], { family: 'ipv4', backend: 'nft' });
const pathOf = (observed: Observed, settings = DEFAULT_SETTINGS): string[] | undefined => verdict(observed, settings).path?.map(({ backend, family, table, chain }) => `${backend} ${family} ${table} ${chain}`);
const DROP = '-d 169.254.169.254/32 -j DROP';

t.test('every chain once, whichever target enters it, and both of a native table', async (t) => {
  const tables: Tables = { raw: '-A PREROUTING -i vlan+ -j BRANCH\n-A BRANCH -j RETURN', filter: '-A FORWARD -j LATE\n-A LATE -j ACCEPT' };
  t.same(pathOf(seen(tables, GUARD)), ['nft ip raw PREROUTING', 'nft-native inet imds-guard forward', 'nft ip raw BRANCH']);
});

t.test('only where all of it is proved', async (t) => {
  t.equal(pathOf(seen({ filter: '' })), undefined, 'open');
  t.equal(pathOf({ ...seen({}, GUARD), bypasses: ['flowtable inet f ft'] }), undefined, 'unknown');
  t.equal(pathOf(seen({ filter: `-A FORWARD -m conntrack --ctstate NEW ${DROP}` })), undefined, 'blocked for new connections alone');
  t.equal(pathOf(seen({ filter: `-A FORWARD -m conntrack ! --ctstate INVALID ${DROP}` })), undefined, 'and for all but one state');
  t.same(pathOf(seen({ filter: `-A FORWARD ${DROP}` })), ['nft ip filter FORWARD']);
});

t.test('a drop before routing says nothing of a packet that is translated into IMDS', async (t) => {
  const early: Tables = { raw: `-A PREROUTING ${DROP}`, nat: '-A PREROUTING -d 10.0.0.1/32 -j ELSEWHERE\n-A ELSEWHERE -j RETURN' };
  t.equal(verdict(seen(early), DEFAULT_SETTINGS).answer, 'blocked');
  t.equal(pathOf(seen(early)), undefined, 'a rule in a chain that no packet to IMDS enters may change the answer');
  const translating = { ...early, nat: early['nat']!.replace('-j RETURN', '-p tcp -j DNAT --to-destination 169.254.169.254') };
  t.equal(verdict(seen(translating), DEFAULT_SETTINGS).reason, 'ReachedByDetour');
  t.same(pathOf(seen(early, GUARD)), ['nft ip raw PREROUTING', 'nft-native inet imds-guard forward'], 'with a drop behind, it may not');
  t.same(pathOf(seen(translating, GUARD)), ['nft ip raw PREROUTING', 'nft-native inet imds-guard forward']);
});

t.test('chains before all hooks belong to it: they might redirect', async (t) => {
  const early = 'table netdev early {\n\tchain in {\n\t\ttype filter hook ingress device "eni0" priority 0; policy accept;\n\t\tip saddr 10.0.0.1 jump more\n\t}\n\tchain more {\n\t\tdrop\n\t}\n}\n';
  t.same(pathOf(seen({}, GUARD, early)), ['nft-native inet imds-guard forward', 'nft-native netdev early in', 'nft-native netdev early more']);
});

t.test('tables that nobody could list are no chains', async (t) => {
  t.same(pathOf({ ...seen({ filter: `-A FORWARD ${DROP}` }), nft: undefined }), ['nft ip filter FORWARD']);
});

t.test('it is for programs: no text shows it', async (t) => {
  const report = verdict(seen({}, GUARD), DEFAULT_SETTINGS);
  const { path: _, ...without } = report;
  t.equal(reportText(report), reportText(without));
  t.equal(npdLine(report), npdLine(without));
});
