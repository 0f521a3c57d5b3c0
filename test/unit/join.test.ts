import t from 'tap';
import { join, wantsEvery } from '../../agent/core/probe/join.ts';
import type { Observation } from '../../agent/core/probe/joined-report.ts';
import type { Exchange, NetworkProbe, ProbeClass } from '../../agent/core/probe/report.ts';
import { summary } from '../../agent/core/probe/summary.ts';
import { REASONS, type Reason } from '../../agent/core/reasons.ts';
import type { Report, TargetReport } from '../../agent/core/report.ts';

const PASSED: ReadonlySet<ProbeClass> = new Set(['open', 'hop-limit', 'v1-off', 'forbidden', 'throttled']);
const exchange = (kind: ProbeClass, more: Partial<Exchange> = {}): Exchange => ({ class: kind, because: kind, connected: PASSED.has(kind), ...more });
const network = (kind: ProbeClass, more: Partial<NetworkProbe> = {}): NetworkProbe => ({
  pods: [{ namespace: 'shop', name: 'web' }], networkNamespace: '/run/netns/web', family: 'ipv4', interfaces: ['eni1'], kind: 'eni+', otherWays: [], unruled: [],
  class: kind, v1: exchange(kind), v2: exchange(kind), reached: PASSED.has(kind), ...more,
});
const node = network('open', { pods: [], networkNamespace: 'node', kind: 'node', interfaces: [] });
const tried = (networks: readonly NetworkProbe[], more: { readonly found?: number; readonly control?: readonly NetworkProbe[]; readonly uncovered?: readonly string[]; readonly skipped?: readonly { networkNamespace: string; because: string }[] } = {}): Observation => ({
  state: 'tried', ...summary({ control: more.control ?? [node], networks, found: more.found ?? networks.length, uncovered: more.uncovered ?? [], skipped: more.skipped ?? [], tookMs: 1 }),
});
const target = (answer: TargetReport['answer'], reason: Reason, name = 'eni+ ipv4'): TargetReport =>
  ({ name, family: name.endsWith('6') ? 'ipv6' : 'ipv4', interface: name.split(' ')[0], from: 'configuration', reason, answer, established: answer, states: {}, ...(answer === 'blocked' ? { proof: [] } : answer === 'open' ? { witness: {} } : { doubts: [{ why: 'tc shows a program' }] }) }) as unknown as TargetReport;
const report = (answer: TargetReport['answer'], reason: Reason, ...more: readonly TargetReport[]): Report => ({ answer, reason, targets: [target(answer, reason), ...more], collateral: [], assumed: [] });

const blocked = report('blocked', 'EveryPacketDropped');
const open = report('open', 'PacketPasses');
const unknown = report('unknown', 'MayBypassNetfilter');
const untried: Observation = { state: 'not-tried', because: 'switched off by the settings' };
const nobody = tried([], { found: 0, control: [] });

const say = (rules: Report, observed: Observation): string => {
  const { answer, reason, basis } = join(rules, observed);
  return `${answer} ${reason} ${basis.join('+') || 'nothing'}`;
};

t.test('the truth table: what rules say, what packets did, what is told, and what it rests on', async (t) => {
  const table: readonly (readonly [string, Report, Observation, string])[] = [
    ['proved, no packets', blocked, untried, 'blocked EveryPacketDropped rules'],
    ['proved, no pods', blocked, nobody, 'blocked EveryPacketDropped rules'],
    ['proved, and every packet died', blocked, tried([network('dropped')]), 'blocked EveryPacketDropped rules+packets'],
    ['proved, and the node refuses', blocked, tried([network('rejected')]), 'blocked EveryPacketDropped rules+packets'],
    ['proved, and a pod got a token', blocked, tried([network('open')]), 'open EvidenceDisagrees packets'],
    ['proved, and a connection stands, whatever IMDS says', blocked, tried([network('hop-limit')]), 'open EvidenceDisagrees packets'],
    ['proved, and IMDS refuses a pod', blocked, tried([network('v1-off')]), 'open EvidenceDisagrees packets'],
    ['proved, and one of two pods got through', blocked, tried([network('dropped'), network('throttled')]), 'open EvidenceDisagrees packets'],
    ['proved, and something in the pod answers', blocked, tried([network('proxied', { v1: exchange('proxied', { by: 'pod' }), v2: exchange('proxied', { by: 'pod' }) })]), 'blocked EveryPacketDropped rules'],
    ['proved, and something on the node answers', blocked, tried([network('proxied', { v1: exchange('proxied', { by: 'node' }) })]), 'unknown EvidenceDisagrees nothing'],
    ['proved, and answered, but nobody saw by whom', blocked, tried([network('open', { reached: false })]), 'unknown EvidenceDisagrees nothing'],
    ['proved, and it cannot be told', blocked, tried([network('inconclusive')]), 'blocked EveryPacketDropped rules'],
    ['proved, and IMDS does not answer the node either', blocked, tried([network('dropped')], { control: [network('inconclusive')] }), 'blocked EveryPacketDropped rules'],
    ['a packet passes, none was sent', open, untried, 'open PacketPasses rules'],
    ['a packet passes, and did', open, tried([network('open')]), 'open PacketPasses rules+packets'],
    ['a packet passes, and did, without a token', open, tried([network('hop-limit')]), 'open PacketPasses rules+packets'],
    ['a packet passes, but every one died', open, tried([network('dropped')]), 'unknown EvidenceDisagrees nothing'],
    ['a packet of another kind of pod passes', open, tried([network('dropped', { interfaces: ['vlan1'], kind: 'vlan+' })]), 'open PacketPasses rules'],
    ['a packet passes over IPv6, and one died over IPv4', report('open', 'PacketPasses', target('open', 'PacketPasses', 'eni+ ipv6')), tried([network('dropped')]), 'open PacketPasses rules'],
    ['cannot be told, no packets', unknown, untried, 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, no pods', unknown, nobody, 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and every pod was tried and died', unknown, tried([network('dropped')]), 'blocked EveryProbeDied packets'],
    ['cannot be told, and a pod got a token', unknown, tried([network('open')]), 'open PodReachedImds packets'],
    ['cannot be told, and only the hop limit keeps it', unknown, tried([network('hop-limit')]), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and a proxy answers', unknown, tried([network('proxied')]), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and only some pods were tried', unknown, tried([network('dropped')], { found: 2 }), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and a kind of pod is out of sight', unknown, tried([network('dropped')], { uncovered: ['cali+'] }), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and a namespace could not be entered', unknown, tried([network('dropped')], { skipped: [{ networkNamespace: '/run/netns/x', because: 'EPERM' }] }), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and a pod has a way past the rules', unknown, tried([network('dropped', { unruled: ['net1 (macvlan)'] })]), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and a pod has a second veth of that kind', unknown, tried([network('dropped', { otherWays: ['eni2'] })]), 'unknown MayBypassNetfilter nothing'],
    ['cannot be told, and its second veth is of a kind that is proved', report('unknown', 'MayBypassNetfilter', target('blocked', 'EveryPacketDropped', 'veth+ ipv4')), tried([network('dropped', { otherWays: ['veth2'] })]), 'blocked EveryProbeDied packets'],
    ['the rules themselves say that others pass', report('unknown', 'DependsOnState'), tried([network('dropped')]), 'unknown DependsOnState nothing'],
    ['a rule that cannot be read lets some through', { ...report('unknown', 'CannotRead'), targets: [{ ...target('unknown', 'CannotRead'), doubts: [{ why: 'an unknown match', rule: {} }] } as unknown as TargetReport] }, tried([network('dropped')]), 'unknown CannotRead nothing'],
    ['one target hangs on a rate', report('unknown', 'MayBypassNetfilter', target('unknown', 'DependsOnState', 'vlan+ ipv4')), tried([network('dropped')]), 'unknown MayBypassNetfilter nothing'],
  ];
  for (const [name, rules, observed, expected] of table) t.equal(say(rules, observed), expected, name);
});

t.test('both sides of a disagreement are shown, and the doubt that packets settled is kept', async (t) => {
  const disagreed = join(blocked, tried([network('open')]));
  t.match(disagreed, { installed: { answer: 'blocked', reason: 'EveryPacketDropped' }, observed: { state: 'tried', answer: 'open' }, message: /rules say blocked.*shop\/web/ });
  t.match(join(unknown, tried([network('dropped')])).message, /MayBypassNetfilter: tc shows a program.*pods that are here now/);
});

t.test('every reason is one of its answer', async (t) => {
  for (const rules of [blocked, open, unknown, report('unknown', 'DependsOnState')]) {
    for (const kind of ['open', 'dropped', 'rejected', 'hop-limit', 'v1-off', 'forbidden', 'throttled', 'proxied', 'no-route', 'inconclusive'] as const) {
      const { answer, reason, observed } = join(rules, tried([network(kind)]));
      t.ok(REASONS[reason].answer.split(' or ').includes(answer), `${answer} ${reason}`);
      if (observed.state === 'tried') t.equal(REASONS[observed.reason].answer, observed.answer, `${kind}: ${observed.reason}`);
    }
  }
});

t.test('no packets make a doubt of the rules blocked that is not about what they meet', async (t) => {
  for (const reason of Object.keys(REASONS) as Reason[]) {
    if (REASONS[reason].answer !== 'unknown') continue;
    const { answer } = join(report('unknown', reason), tried([network('dropped')]));
    t.equal(answer, ['MayBypassNetfilter', 'CannotRead', 'TooLarge', 'OrderUnknown', 'NotPermitted', 'NotInstalled', 'Busy', 'TimedOut', 'CouldNotLook', 'NothingToJudge'].includes(reason) ? 'blocked' : 'unknown', reason);
  }
});

t.test('what packets alone say', async (t) => {
  const alone = (networks: readonly NetworkProbe[], more: Parameters<typeof tried>[1] = {}): string => {
    const observed = tried(networks, more);
    return observed.state === 'tried' ? `${observed.answer} ${observed.reason}` : '';
  };
  const six = network('dropped', { family: 'ipv6' });
  t.equal(alone([network('dropped'), network('open')]), 'open PodReachedImds', 'the one that got through counts');
  t.equal(alone([network('dropped'), network('inconclusive')]), 'unknown ProbeInconclusive');
  t.equal(alone([network('dropped'), network('no-route', { family: 'ipv6' })]), 'blocked EveryProbeDied', 'a pod without IPv6 is no doubt');
  t.equal(alone([network('no-route')]), 'unknown ProbeInconclusive', 'nothing was sent at all');
  t.equal(alone([network('dropped'), six]), 'blocked EveryProbeDied', 'IMDS has no IPv6 here: silence over it tells nothing, and is not counted');
  t.equal(alone([six]), 'unknown ProbeInconclusive');
  t.equal(alone([network('dropped'), network('no-route', { networkNamespace: '/run/netns/mute' })]), 'unknown ProbeInconclusive', 'from one of them nothing was sent in any family');
  t.equal(alone([network('dropped')], { control: [network('dropped', { kind: 'node' })] }), 'unknown ControlFailed');
  t.equal(alone([], { found: 0 }), 'unknown NoPodToProbe');
});

t.test('more packets are sent only where some died and the rules do not tell', async (t) => {
  const some = tried([network('dropped')], { found: 9 });
  t.equal(wantsEvery(unknown, some), true);
  t.equal(wantsEvery(unknown, tried([network('dropped')])), false, 'these were all');
  t.equal(wantsEvery(blocked, some), false);
  t.equal(wantsEvery(unknown, tried([network('open')], { found: 9 })), false, 'they would only be many');
  t.equal(wantsEvery(report('unknown', 'DependsOnState'), some), false);
  t.equal(wantsEvery(unknown, untried), false);
});
