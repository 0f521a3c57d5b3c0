import { type BaseChain, type TracedChain, baseChainsOf, judge, nftBaseChains, parseNftText, parseSave } from 'node-iptables';
import t from 'tap';
import { type Target, anyStateQuestionOf, questionOf } from '../../agent/core/targets.ts';
import { generate } from '../fuzz/generate.ts';
import { type Random, randomOf } from '../fuzz/random.ts';
import { BACKENDS, type FuzzChain, type FuzzRuleset, nftText, restoreText } from '../fuzz/ruleset.ts';
import { IMDS_DROP, type Tables, dump } from './ask.ts';

const target: Target = { name: 'eni+ ipv4', family: 'ipv4', interface: 'eni+', kind: 'pod', from: 'configuration' };
const scene = { pods: [{ interface: 'eni0000000001', address: '10.0.1.101', out: 'ens5' }, { interface: 'vlan0000000002', address: '10.0.1.102', out: 'vlan.eth.1' }] };
const question = anyStateQuestionOf(target, 0, ['eni+']);

const GUARD = 'table inet imds-guard {\n\tchain forward {\n\t\ttype filter hook forward priority -200; policy accept;\n\t\tip daddr 169.254.169.254 drop\n\t}\n}\n';
const withNative = (tables: Tables, native: string): BaseChain[] => [
  ...baseChainsOf(parseSave(dump(tables), { family: 'ipv4', backend: 'nft' })),
  ...nftBaseChains(parseNftText(native), 'ipv4', () => true),
];
const placeOf = ({ place, name }: TracedChain): string => `${place.backend} ${place.table} ${name}`;
const entered = (bases: readonly BaseChain[]): string[] | undefined => {
  const judgement = judge(bases, question);
  return judgement.answer === 'blocked' ? judgement.entered?.map(placeOf) : undefined;
};

t.test('chains below the drop are entered by no packet', async (t) => {
  const tables: Tables = { mangle: '-A PREROUTING -j MARKS\n-A MARKS -j RETURN\n-A FORWARD -j RETURN', filter: '-A FORWARD -j LATE\n-A LATE -j ACCEPT' };
  t.same(entered(withNative(tables, GUARD)), ['nft mangle PREROUTING', 'nft mangle MARKS', 'nft-native imds-guard forward']);
  t.same(entered(withNative({ ...tables, filter: `-A FORWARD -j LATE\n-A LATE -j RETURN\n${IMDS_DROP}` }, '')), ['nft mangle PREROUTING', 'nft mangle MARKS', 'nft mangle FORWARD', 'nft filter FORWARD', 'nft filter LATE']);
});

t.test('nor is a chain that a rule leads others to', async (t) => {
  const jumps = '-A FORWARD -d 10.0.0.1/32 -j SERVICES\n-A FORWARD -p tcp -j TCP\n-A SERVICES -j ACCEPT\n-A TCP -j RETURN';
  t.same(entered(withNative({ filter: `${jumps}\n${IMDS_DROP}` }, '')), ['nft filter FORWARD', 'nft filter TCP']);
});

t.test('an open answer has none, for not every packet was followed', async (t) => {
  t.equal(entered(withNative({ filter: '' }, '')), undefined);
});

t.test('of chains with one priority each is asked what it would make of the packets if it came first', async (t) => {
  const native = 'table inet other {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\tgoto g\n\t}\n\tchain g {\n\t\tip saddr 10.0.0.1 accept\n\t}\n}\n';
  t.same(entered(withNative({ filter: IMDS_DROP }, native))?.sort(), ['nft filter FORWARD', 'nft-native other f', 'nft-native other g']);
});

t.test('a packet that is sent elsewhere by one of two chains of equal priority, and dropped by the other, is not blocked', async (t) => {
  const of = (backend: 'nft' | 'legacy', mangle: string): BaseChain[] => baseChainsOf(parseSave(dump({ mangle }), { family: 'ipv4', backend }));
  const drop = '-A PREROUTING -d 169.254.169.254/32 -j DROP';
  const proxy = '-A PREROUTING -d 169.254.169.254/32 -p tcp -j TPROXY --on-port 8181 --on-ip 127.0.0.1 --tproxy-mark 0x0/0x0';
  t.equal(judge([...of('nft', drop), ...of('legacy', proxy)], question).answer, 'unknown');
  t.equal(judge([...of('nft', drop), ...of('legacy', drop)], question).answer, 'blocked');
});

t.test('whatever is written into chains that no packet enters, blocked it stays', async (t) => {
  const seed = Number(process.env['SEED'] ?? 47_000);
  let blocked = 0;
  let changed = 0;
  for (let round = 0; round < 400; round++) {
    const ruleset = generate(seed + round, scene);
    for (const asked of [question, questionOf(target, 'NEW', 0, ['eni+'])]) {
      const before = judge(basesOf(ruleset), asked);
      if (before.answer !== 'blocked' || !before.entered) continue;
      blocked++;
      const known = new Set(before.entered.map(placeOf));
      const other = elsewhere(ruleset, known, randomOf(seed + round));
      changed += Number(rulesOf(other) > rulesOf(ruleset));
      const after = judge(basesOf(other), asked);
      if (after.answer !== 'blocked') t.fail(`seed ${seed + round}: ${after.answer}`);
    }
  }
  t.ok(blocked > 80 && changed > 80, `${blocked} blocked, ${changed} of them with other chains`);
});

function basesOf(ruleset: FuzzRuleset): BaseChain[] {
  return [
    ...baseChainsOf(parseSave(restoreText(ruleset.nft), { family: 'ipv4', backend: 'nft' })),
    ...baseChainsOf(parseSave(restoreText(ruleset.legacy), { family: 'ipv4', backend: 'legacy' })),
    ...nftBaseChains(parseNftText(nftText(ruleset.native)), 'ipv4', () => true),
  ];
}

/** The same with a rule more at the head of every chain that is not among the known ones. */
function elsewhere(ruleset: FuzzRuleset, known: ReadonlySet<string>, random: Random): FuzzRuleset {
  const changed = BACKENDS.map((backend) => [
    backend,
    ruleset[backend].map((table) => {
      const name = backend === 'native' ? table.name.split(' ')[1]! : table.name;
      const place = backend === 'native' ? 'nft-native' : backend;
      const chains = table.chains.map((chain): FuzzChain => (known.has(`${place} ${name} ${chain.name}`) ? chain : { ...chain, rules: [anyRule(backend, name, random), ...chain.rules] }));
      return { ...table, chains };
    }),
  ] as const);
  return { ...ruleset, ...Object.fromEntries(changed) };
}

function anyRule(backend: string, table: string, random: Random): string {
  if (backend === 'native') return random.pick(['accept', 'drop', 'meta mark set 0x1', 'ct mark set 0x2', 'nobody knows', 'notrack']);
  if (table === 'nat') return random.pick(['-j ACCEPT', '-j DNAT --to-destination 10.0.0.1', '-j RETURN', '-m from-the-future -j ACCEPT']);
  return random.pick(['-j ACCEPT', '-j DROP', '-j MARK --set-xmark 0x1/0x1', '-j CONNMARK --set-xmark 0x2/0x2', '-m from-the-future --what -j ELSEWHERE']);
}

const rulesOf = (ruleset: FuzzRuleset): number => BACKENDS.flatMap((backend) => ruleset[backend]).flatMap(({ chains }) => chains).reduce((sum, { rules }) => sum + rules.length, 0);
