import t from 'tap';
import { setImmediate as soon } from 'node:timers/promises';
import { type Condition, bootIdOf, conditionOf } from '../../agent/core/kubernetes/condition.ts';
import { eventOfCondition, eventOfOverwrite } from '../../agent/core/kubernetes/events.ts';
import { withoutTaint, written } from '../../agent/core/kubernetes/node.ts';
import { heartbeatAfterMs, retryAfterMs, retryAfterSeconds, spreadMs, STALE_AFTER_MS } from '../../agent/core/kubernetes/retry.ts';
import type { KubeAnswer, KubeRequest } from '../../agent/effects/kube-client.ts';
import { NodeCondition } from '../../agent/reporters/node-condition.ts';
import { NodeEvents } from '../../agent/reporters/node-events.ts';

const BOOT = '0f5c1a2b-0000-4000-8000-000000000001';
const yes = conditionOf({ answer: 'blocked', reason: 'EveryPacketDropped', message: '', basis: ['rules'] }, BOOT);
const no = conditionOf({ answer: 'open', reason: 'PacketPasses', message: '', basis: ['rules'] }, BOOT);

/** An API server in memory with one Node, and a clock that moves when it is told to. */
function world({ startupTaint, chance = 0.5 }: { readonly startupTaint?: string; readonly chance?: number } = {}) {
  let now = 0;
  let timers: { readonly at: number; readonly then: () => void }[] = [];
  const api = {
    node: { metadata: { name: 'node-1' }, spec: {} as { taints?: { key: string }[] }, status: { conditions: [] as Record<string, string>[] } } as { metadata: object; spec: { taints?: { key: string }[] }; status: { conditions: Record<string, string>[] } } | undefined,
    /** What the next requests get in place of the server's own answer; 'hang' is an answer that never comes in time. */
    faults: [] as (KubeAnswer | 'hang')[],
    asked: [] as KubeRequest[],
    writes: [] as { readonly atMs: number; readonly condition: Record<string, string> }[],
  };
  const answer = (status: number, body: unknown = {}, headers: KubeAnswer['headers'] = {}): KubeAnswer => ({ status, body: JSON.stringify(body), headers });
  const ask = async (request: KubeRequest): Promise<KubeAnswer> => {
    api.asked.push(request);
    const fault = api.faults.shift();
    if (fault === 'hang') throw new Error('no answer within 10 s');
    if (fault) return fault;
    if (request.path.includes('/events')) return answer(201);
    if (!api.node) return answer(404, { message: 'nodes "node-1" not found' });
    if (request.method === 'GET') return answer(200, api.node);
    if (request.path.endsWith('/status')) {
      const [condition] = (JSON.parse(request.body!) as { status: { conditions: Record<string, string>[] } }).status.conditions;
      api.node.status.conditions = [...api.node.status.conditions.filter(({ type }) => type !== condition!['type']), condition!];
      api.writes.push({ atMs: now, condition: condition! });
    } else api.node.spec = {};
    return answer(200, api.node);
  };
  const logged: string[] = [];
  const clock = {
    now: () => now,
    wall: (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms).toISOString(),
    chance: () => chance,
    after: (ms: number, then: () => void) => {
      const timer = { at: now + ms, then };
      timers.push(timer);
      return { cancel: () => void (timers = timers.filter((one) => one !== timer)) };
    },
  };
  const log = (_level: string, message: string): void => void logged.push(message);
  return {
    api, answer, logged,
    condition: new NodeCondition({ clock, node: 'node-1', bootId: BOOT, ask, log, startupTaint }),
    events: new NodeEvents({ clock, node: 'node-1', ask, log }),
    told: () => api.writes.map(({ condition }) => `${condition['status']} ${condition['reason']}`),
    ours: () => api.node?.status.conditions.find(({ type }) => type === 'PodIMDSBlocked'),
    pass: async (ms: number): Promise<void> => {
      const until = now + ms;
      for (;;) {
        const next = timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        timers = timers.filter((one) => one !== next);
        now = Math.max(now, next.at);
        next.then();
        for (let turn = 0; turn < 5; turn += 1) await soon();
      }
      now = until;
    },
  };
}

t.test('the first that is told of each start is that nobody knows, though the answer is there already', async (t) => {
  const { condition, pass, told, ours } = world();
  condition.start();
  condition.report(yes);
  await pass(60_000);
  t.same(told(), ['Unknown AgentStarting', 'True EveryPacketDropped']);
  t.match(ours(), { lastHeartbeatTime: /^2026-01-01T00:00:\d\dZ$/, lastTransitionTime: /Z$/ });
  t.equal(bootIdOf(ours()!['message']!), BOOT);
});

t.test('a change is told, a heartbeat follows, and nothing between', async (t) => {
  const { condition, api, pass, told, ours } = world();
  condition.start();
  condition.report(yes);
  await pass(60_000);
  const since = ours()!['lastTransitionTime'];
  await pass(3_600_000);
  t.ok(api.writes.length - 2 >= 11 && api.writes.length - 2 <= 13, `${api.writes.length - 2} heartbeats in an hour`);
  t.equal(ours()!['lastTransitionTime'], since, 'a heartbeat is no transition');
  const before = api.writes.length;
  condition.report(no);
  condition.report(no);
  await pass(40_000);
  t.equal(api.writes.length, before + 1);
  t.equal(told().at(-1), 'False PacketPasses');
  t.not(ours()!['lastTransitionTime'], since);
  condition.report(yes);
  condition.report(no);
  await pass(40_000);
  t.equal(told().at(-1), 'False PacketPasses', 'what came and went meanwhile is not told');
});

t.test('what stood there before this start keeps its transition where the status is the same', async (t) => {
  const { condition, api, pass, ours } = world();
  api.node!.status.conditions.push({ type: 'Ready', status: 'True' }, { type: 'PodIMDSBlocked', status: 'Unknown', reason: 'AgentStopped', message: '', lastTransitionTime: '2025-12-31T00:00:00Z' });
  condition.start();
  await pass(5000);
  t.match(ours(), { reason: 'AgentStarting', lastTransitionTime: '2025-12-31T00:00:00Z' });
  t.match(api.node!.status.conditions, [{ type: 'Ready', status: 'True' }], 'and no other is touched');
});

t.test('a True does not outlive its proof: whoever stops says so', async (t) => {
  const { condition, pass, told } = world();
  condition.start();
  condition.report(yes);
  await pass(60_000);
  await condition.stop();
  t.equal(told().at(-1), 'Unknown AgentStopped');
  await pass(3_600_000);
  t.equal(told().at(-1), 'Unknown AgentStopped', 'and nothing after it');
});

t.test('faults', async (t) => {
  const busy = (seconds: string) => world().answer(429, { message: 'too many requests' }, { 'retry-after': seconds });
  const faults: readonly (readonly [string, (made: ReturnType<typeof world>) => (KubeAnswer | 'hang')[], number])[] = [
    ['no answer', () => ['hang', 'hang', 'hang'], 60_000],
    ['500', ({ answer }) => [answer(500), answer(500)], 60_000],
    ['409', ({ answer }) => [answer(409), answer(409)], 60_000],
    ['429', () => [busy('30')], 120_000],
    ['403', ({ answer }) => [answer(403, { message: 'nodes "node-1" is forbidden: User "x" cannot patch resource "nodes/status"' })], 600_000],
  ];
  for (const [name, make, withinMs] of faults) {
    const made = world();
    made.condition.start();
    made.condition.report(yes);
    await made.pass(60_000);
    made.api.faults.push(...make(made));
    made.condition.report(no);
    await made.pass(withinMs);
    t.equal(made.told().at(-1), 'False PacketPasses', name);
    t.ok(made.logged.length > 0, `${name} is told to who reads the log`);
    t.equal(made.condition.trouble, undefined, 'and is over');
  }
  const asked = world();
  asked.api.faults.push(busy('30'));
  asked.condition.start();
  await asked.pass(25_000);
  t.equal(asked.api.asked.length, 1, 'who is asked to wait waits');
});

t.test('the API is away for ten minutes: tried ever more rarely, and written when it is back', async (t) => {
  const { condition, api, pass, told } = world();
  condition.start();
  condition.report(yes);
  await pass(60_000);
  api.faults.push(...Array.from({ length: 1000 }, () => 'hang' as const));
  condition.report(no);
  await pass(600_000);
  const tries = 1000 - api.faults.length;
  t.ok(tries >= 10 && tries <= 30, `${tries} tries in ten minutes`);
  api.faults.length = 0;
  await pass(120_000);
  t.equal(told().at(-1), 'False PacketPasses');
});

t.test('a Node that is deleted and comes back is told again', async (t) => {
  const { condition, api, pass, ours } = world();
  condition.start();
  condition.report(yes);
  await pass(60_000);
  const { node } = api;
  api.node = undefined;
  await pass(700_000);
  api.node = { ...node!, status: { conditions: [] } };
  await pass(120_000);
  t.match(ours(), { status: 'True', reason: 'EveryPacketDropped' });
});

t.test('the startup taint goes when the node is proved blocked, and no other', async (t) => {
  const { condition, api, pass, told } = world({ startupTaint: 'imds-guard/starting' });
  api.node!.spec = { taints: [{ key: 'other' }, { key: 'imds-guard/starting' }] };
  condition.start();
  await pass(10_000);
  t.same(api.asked.filter(({ path }) => !path.endsWith('/status')).length, 1, 'not before');
  condition.report(yes);
  await pass(60_000);
  t.equal(told().at(-1), 'True EveryPacketDropped');
  const patch = api.asked.find(({ method, path }) => method === 'PATCH' && !path.endsWith('/status'));
  t.same(JSON.parse(patch!.body!), [{ op: 'test', path: '/spec/taints', value: [{ key: 'other' }, { key: 'imds-guard/starting' }] }, { op: 'replace', path: '/spec/taints', value: [{ key: 'other' }] }]);
  t.equal(withoutTaint({ spec: { taints: [{ key: 'other' }] } }, 'imds-guard/starting'), undefined);
});

t.test('five thousand nodes at rest, and a change that comes to all of them', async (t) => {
  const chances = Array.from({ length: 1000 }, (_, at) => at / 999);
  const mean = chances.reduce((sum, chance) => sum + heartbeatAfterMs(chance), 0) / chances.length;
  t.ok(5000 / (mean / 1000) <= 5000 / 300 + 0.01, 'writes per second at rest');
  t.ok(heartbeatAfterMs(1) < STALE_AFTER_MS / 1.5, 'a heartbeat comes well before readers take it for none');
  t.ok(spreadMs(false, 1) - spreadMs(false, 0) >= 30_000);
  t.ok(spreadMs(true, 1) <= 2000, 'a node that starts is waited for');
});

t.test('when it is tried again', async (t) => {
  t.equal(retryAfterMs({ is: 'unreachable' }, 1, 0.5), 1000);
  t.equal(retryAfterMs({ is: 'unreachable' }, 30, 0.5), 60_000);
  t.equal(retryAfterMs({ is: 'refused', status: 429, seconds: 30 }, 1, 0), 30_000);
  t.ok(retryAfterMs({ is: 'refused', status: 403 }, 1, 0) >= 100_000);
  t.same(['7', '99999', 'soon', '-1', undefined].map(retryAfterSeconds), [7, undefined, undefined, undefined, undefined]);
});

t.test('events fold: the same again counts up, at most once a minute', async (t) => {
  const { events, api, pass } = world();
  const overwritten = eventOfOverwrite({ at: '', lost: ['a', 'b', 'c', 'd'], culprit: { name: 'iptables-nft', parent: 'calico-node' }, couldHavePassed: 'no' });
  t.match(overwritten, { type: 'Warning', reason: 'RulesOverwritten', message: /iptables-nft of calico-node took away a; b; c and 1 more; no packet could pass/ });
  for (let times = 0; times < 50; times += 1) events.tell(overwritten);
  await pass(300_000);
  const sent = api.asked.map(({ method, body }) => `${method} ${(JSON.parse(body!) as { count: number }).count}`);
  t.same(sent, ['POST 1', 'PATCH 50']);
  events.tell(eventOfCondition(no));
  await pass(1000);
  t.match(JSON.parse(api.asked.at(-1)!.body!), { type: 'Warning', reason: 'PodIMDSOpen', message: /^PacketPasses: /, involvedObject: { kind: 'Node', name: 'node-1' } });
  t.notMatch((JSON.parse(api.asked.at(-1)!.body!) as { message: string }).message, /boot/);
});

t.test('the message is cut, and the boot id stays at its end', async (t) => {
  const long = conditionOf({ answer: 'unknown', reason: 'MayBypassNetfilter', message: 'x'.repeat(5000), basis: [] }, BOOT);
  t.ok(long.message.length < 600);
  t.equal(bootIdOf(long.message), BOOT);
  t.equal(written(yes as Condition, { status: 'True', lastTransitionTime: 'never' }, 'now').lastTransitionTime, 'now', 'a time that is none is not kept');
});
