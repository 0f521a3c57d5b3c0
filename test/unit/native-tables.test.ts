import t from 'tap';
import { desired } from '../../agent/core/desired.ts';
import { guardScript } from '../../agent/core/guard-table.ts';
import type { Observed } from '../../agent/core/observed.ts';
import { isWatched, plan } from '../../agent/core/plan.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { verdict } from '../../agent/core/verdict.ts';
import { observeNode } from '../../agent/effects/observe-node.ts';
import { IptablesError } from '../../agent/node-iptables/src/errors.ts';
import { FakeFirewall } from '../../agent/node-iptables/src/fake/index.ts';

type NftAnswers = Partial<Record<'chains' | 'json' | 'text', (told: string) => string>>;

/** A node whose nft says something else than the truth. */
async function observed(fake: FakeFirewall, { chains = same, json = same, text = same }: NftAnswers = {}): Promise<Observed> {
  const firewall = {
    version: fake.version.bind(fake),
    save: fake.save.bind(fake),
    restore: fake.restore.bind(fake),
    nftRun: fake.nftRun.bind(fake),
    nftList: async (what: readonly string[]) => (what[0]?.startsWith('list chains') ? chains : json)(await fake.nftList(what)),
    nftText: async (what: readonly string[]) => text(await fake.nftText(what)),
  };
  return observeNode({ firewall, print: async () => undefined, procNet: '/nonexistent', cniDirectory: '/nonexistent', forWriting: false }, DEFAULT_SETTINGS);
}
const same = (told: string): string => told;
const refuse = (kind: 'unsupported' | 'not-installed' | 'refused') => (): string => {
  throw new IptablesError(kind, `nft: ${kind}`, { command: 'nft', args: [], stderr: '' });
};

const guarded = async (): Promise<FakeFirewall> => {
  const fake = new FakeFirewall();
  await fake.nftRun(guardScript('drop'));
  return fake;
};
const flagged = (flag: string) => (told: string): string => told.replace('"name":"imds-guard","handle":0}', `"name":"imds-guard","handle":0,"flags":"${flag}"}`);
const withFlags = (line: string) => (told: string): string => told.replace('{\n', `{ # progname nft\n\t${line}\n`);
const answerOf = (node: Observed): string => verdict({ ...node, families: ['ipv4'] }, DEFAULT_SETTINGS).answer;
const guardStepsOf = (node: Observed): string[] => plan(desired(DEFAULT_SETTINGS, [], ['ipv4', 'ipv6']), node, 'nft').flatMap((step) => (step.do === 'nft' ? step.because : []));

t.test('the flags of a table are those of its text, whatever word JSON has for them', async (t) => {
  const cases = [
    ['owner', 'flags owner', 'no', 'yes', 'blocked'],
    ['Lester Gooch #5', 'flags owner', 'no', 'yes', 'blocked'],
    ['owner', 'flags dormant', 'yes', 'no', 'open'],
    ['imds-guard', 'flags dormant,owner', 'yes', 'yes', 'open'],
  ] as const;
  for (const [word, line, dormant, owned, answer] of cases) {
    const node = await observed(await guarded(), { json: flagged(word), text: withFlags(line) });
    t.match(node.nft?.tables, [{ name: 'imds-guard', dormant, owned }], `${word}: ${line}`);
    t.equal(answerOf(node), answer, `${word}: ${line}`);
    t.equal(isWatched(node), owned === 'yes');
    t.equal(guardStepsOf(node).length, dormant === 'yes' ? 1 : 0);
  }
  t.equal((await observed(await guarded(), { text: refuse('refused') })).nft?.tables[0]?.owned, 'no', 'where JSON tells no flags, no text is asked for');
});

t.test('where the text does not tell them either, nothing is proved by the table', async (t) => {
  for (const text of [refuse('refused'), () => 'no table at all\n']) {
    const node = await observed(await guarded(), { json: flagged('owner'), text });
    t.match(node.nft?.tables, [{ dormant: 'unknown', owned: 'unknown' }]);
    t.equal(answerOf(node), 'unknown');
  }
});

t.test('JSON that breaks off at the flags is read from the text, and what neither tells is a failure', async (t) => {
  const cut = (told: string): string => `${told.slice(0, told.indexOf('"handle":0') + 10)}, "flags": \n`;
  const node = await observed(await guarded(), { json: cut, text: withFlags('flags owner') });
  t.same([node.failures, answerOf(node), guardStepsOf(node)], [[], 'blocked', []]);
  t.match(await observed(await guarded(), { json: cut, text: refuse('refused') }), { failures: [{ what: 'nft list', reason: 'CannotRead' }] });
});

t.test('counters and elements are no reason to write the table anew', async (t) => {
  const counted = (told: string): string =>
    told.replaceAll('"packets":0,"bytes":0', '"packets":7,"bytes":420').replace('"timeout":3600', '"timeout":3600,"elem":[{"elem":{"val":{"concat":["eni0","10.0.0.2"]},"expires":9,"counter":{"packets":7,"bytes":420}}}]');
  const node = await observed(await guarded(), { json: counted });
  t.same([guardStepsOf(node), answerOf(node)], [[], 'blocked']);
});

t.test('a kernel without nf_tables, and a node without nft: the table is nobody\'s step, and the reason is known', async (t) => {
  const bare = await observed(new FakeFirewall(), { chains: refuse('unsupported') });
  t.match(bare, { nft: { tables: [] }, failures: [], withoutNft: 'this kernel has no nf_tables' });
  const without = await observed(new FakeFirewall(), { chains: refuse('not-installed') });
  t.match(without, { nft: undefined, failures: [], withoutNft: 'nft is not installed' });
  for (const node of [bare, without]) t.same(guardStepsOf(node), []);
  t.same(guardStepsOf(await observed(new FakeFirewall())), ['table inet imds-guard is missing']);
});
