import t from 'tap';
import { type Cadence, dirtied, nextLookAt } from '../../agent/core/watch/cadence.ts';

const calm: Cadence = { dirty: undefined, lastEndMs: 1_000_000, lastTookMs: 200, failures: 0, resyncMs: 600_000 };
const since = (look: Partial<Cadence>, chance = 0.5): number => nextLookAt({ ...calm, ...look }, chance) - calm.lastEndMs;

t.test('without news the next look is after the resync period, not in step with other nodes', async (t) => {
  t.equal(since({}), 600_000);
  t.ok(since({}, 0) < since({}, 1));
});

t.test('a change is looked at when what belongs to it has come', async (t) => {
  t.equal(since({ dirty: { sinceMs: 1_060_000, urgency: 'now' } }), 60_025);
  t.equal(since({ dirty: { sinceMs: 1_060_000, urgency: 'soon' } }), 61_000);
});

t.test('one who changes things all the time gets a share of the CPU, and never puts a look off for good', async (t) => {
  t.equal(since({ dirty: { sinceMs: 1_000_001, urgency: 'now' } }), 600, 'rest of three times what a look took');
  t.equal(since({ lastTookMs: 60_000, dirty: { sinceMs: 1_000_001, urgency: 'now' } }), 8_000);
  let dirty: Cadence['dirty'];
  for (let now = 1_000_001; now < 1_001_000; now++) dirty = dirtied(dirty, 'now', now);
  t.equal(since({ dirty }), 600, 'the first change counts, however many come after it');
});

t.test('what is urgent is not put off by what is not', async (t) => {
  const dirty = dirtied(dirtied(undefined, 'soon', 5), 'now', 10);
  t.same(dirty, { sinceMs: 5, urgency: 'now' });
  t.same(dirtied(dirty, 'soon', 20), dirty);
});

t.test('after a failure it is tried again without any news, ever more rarely', async (t) => {
  t.same([1, 2, 3, 6, 7, 50].map((failures) => since({ failures })), [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
  t.equal(since({ failures: 50, dirty: { sinceMs: 1_000_100, urgency: 'now' } }), 600, 'news is news all the same');
});
