import { type BaseChain, baseChainsOf, judge, nftBaseChains, parseNftText, parseSave } from 'node-iptables';
import t from 'tap';
import { type Target, anyStateQuestionOf, questionOf } from '../../agent/core/targets.ts';
import { generate } from '../fuzz/generate.ts';
import { nftText, restoreText } from '../fuzz/ruleset.ts';

const target: Target = { name: 'eni+ ipv4', family: 'ipv4', interface: 'eni+', kind: 'pod', from: 'configuration' };
const scene = { pods: [{ interface: 'eni0000000001', address: '10.0.1.101', out: 'ens5' }, { interface: 'vlan0000000002', address: '10.0.1.102', out: 'vlan.eth.1' }] };

t.test('what is blocked for every conntrack state at once is blocked for each of them', async (t) => {
  const seed = Number(process.env['SEED'] ?? 31_000);
  let blocked = 0;
  for (let round = 0; round < 300; round++) {
    const bases = basesOf(seed + round);
    if (judge(bases, anyStateQuestionOf(target, 0, ['eni+'])).answer !== 'blocked') continue;
    blocked++;
    for (const state of ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID'] as const) {
      const { answer } = judge(bases, questionOf(target, state, 0, ['eni+']));
      if (answer !== 'blocked') t.fail(`seed ${seed + round}: ${state} is ${answer}`);
    }
  }
  t.ok(blocked > 30, `${blocked} of 300 rulesets were blocked for every state`);
});

function basesOf(seed: number): BaseChain[] {
  const ruleset = generate(seed, scene);
  return [
    ...baseChainsOf(parseSave(restoreText(ruleset.nft), { family: 'ipv4', backend: 'nft' })),
    ...baseChainsOf(parseSave(restoreText(ruleset.legacy), { family: 'ipv4', backend: 'legacy' })),
    ...nftBaseChains(parseNftText(nftText(ruleset.native)), 'ipv4', () => true),
  ];
}
