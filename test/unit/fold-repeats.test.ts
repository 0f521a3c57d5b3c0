import t from 'tap';
import { FoldRepeats } from '../../agent/core/watch/fold-repeats.ts';

const MINUTE = 60_000;
/** The identity is the first letter, so that `a1` and `a2` are the same event with other particulars. */
function folding(atMost = 100) {
  const fold = new FoldRepeats<string>(MINUTE, atMost);
  return { fold, happened: (event: string, now: number) => fold.happened(event[0]!, event, now) };
}
const once = (event: string) => ({ event, repeated: 0 });

t.test('what happens once is told once, at once', async (t) => {
  const { fold, happened } = folding();
  t.same(happened('a', 0), [once('a')]);
  t.same(happened('b', 0), [once('b')]);
  t.same(fold.ended(MINUTE), []);
  t.equal(fold.nextEnd, undefined);
  t.same(fold.close(), []);
});

t.test('repeats within a minute come out as one, with the last of them', async (t) => {
  const { fold, happened } = folding();
  happened('a1', 0);
  t.same(happened('a2', 10), []);
  t.same(happened('a3', MINUTE - 1), []);
  t.equal(fold.nextEnd, MINUTE);
  t.same(fold.ended(MINUTE - 1), []);
  t.same(fold.ended(MINUTE), [{ event: 'a3', repeated: 2 }]);
  t.same(fold.ended(MINUTE), [], 'told once');
});

t.test('a fight of a night is a line a minute', async (t) => {
  const { fold, happened } = folding();
  const told = [];
  for (let second = 0; second < 8 * 3600; second += 1) told.push(...happened('a', second * 1000));
  told.push(...fold.close());
  t.equal(told.length, 8 * 60 + 1);
  t.equal(told.reduce((sum, { repeated }) => sum + 1 + repeated, 0) - (told.length - 1), 8 * 3600, 'and every blow is counted');
});

t.test('after a quiet minute it is told at once again', async (t) => {
  const { fold, happened } = folding();
  happened('a', 0);
  happened('a', 1);
  fold.ended(MINUTE);
  fold.ended(2 * MINUTE);
  t.same(happened('a', 2 * MINUTE), [once('a')]);
});

t.test('whoever asks late is told what is over first, in order', async (t) => {
  const { happened } = folding();
  for (const event of ['a', 'b', 'b', 'a']) happened(event, 0);
  t.same(happened('c', 5 * MINUTE), [{ event: 'a', repeated: 1 }, { event: 'b', repeated: 1 }, once('c')]);
});

t.test('the end tells what is counted', async (t) => {
  const { fold, happened } = folding();
  for (const event of ['a', 'b', 'b', 'c', 'a', 'a']) happened(event, 0);
  t.same(fold.close(), [{ event: 'a', repeated: 2 }, { event: 'b', repeated: 1 }]);
  t.same(fold.close(), []);
});

t.test('ever new events do not fill the memory: the oldest are let go, and what was counted is told', async (t) => {
  const { fold, happened } = folding(2);
  happened('a', 0);
  happened('a', 1);
  happened('b', 2);
  t.same(happened('c', 3), [{ event: 'a', repeated: 1 }, once('c')]);
  t.same(happened('d', 4), [once('d')]);
  t.equal(fold.nextEnd, 3 + MINUTE);
});
