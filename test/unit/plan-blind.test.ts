import t from 'tap';
import { desired } from '../../agent/core/desired.ts';
import type { Observed } from '../../agent/core/observed.ts';
import { plan, unwrittenFamilies } from '../../agent/core/plan.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';

const observed: Observed = {
  rulesets: [{ family: 'ipv6', backend: 'nft', tables: new Map(), unread: [], notes: [] }],
  nft: { tables: [], unread: [] },
  failures: [{ family: 'ipv4', what: 'iptables-nft-save', reason: 'TimedOut', message: 'gave no answer' }],
  bypasses: [], patterns: [], families: ['ipv4', 'ipv6'], startMark: 0, assumed: [], hostBackend: 'nft',
};

t.test('where the rules could not be read nothing is written, or every pass would add one more copy', async (t) => {
  const steps = plan(desired(DEFAULT_SETTINGS, [], ['ipv4', 'ipv6']), observed, 'nft');
  t.same([...new Set(steps.map((step) => (step.do === 'restore' ? step.family : 'nft')))], ['ipv6', 'nft'], 'the guard table needs none of them');
  t.match(unwrittenFamilies(observed, 'nft'), [/nothing was written for ipv4/]);
});
