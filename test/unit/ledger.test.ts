import t from 'tap';
import { Ledger, type Loss } from '../../agent/core/watch/ledger.ts';

const loss = (atMs: number, name?: string): Loss => ({ lost: ['a rule'], culprit: name === undefined ? {} : { name }, couldHavePassed: 'no', at: `at ${atMs}`, atMs });

t.test('an overwrite is open until it is mended, and counted by who did it', async (t) => {
  const ledger = new Ledger();
  const entry = ledger.lost(loss(100, 'iptables'));
  ledger.lost(loss(150));
  t.same(ledger.overwrites(), [{ at: 'at 100', lost: ['a rule'], culprit: { name: 'iptables' }, couldHavePassed: 'no' }, { at: 'at 150', lost: ['a rule'], culprit: {}, couldHavePassed: 'no' }]);
  ledger.restored(entry, 101.5);
  ledger.restored(entry, 900);
  t.equal(ledger.overwrites()[0]!.restoredAfterMs, 1.5, 'the first time counts');
  t.equal(ledger.unrestored.length, 1);
  ledger.allRestored(1150);
  t.equal(ledger.unrestored.length, 0);
  const { overwritesByCulprit, repairs } = ledger.counts([]);
  t.same(overwritesByCulprit, { iptables: 1, unknown: 1 });
  t.equal(repairs.cumulative.at(-1), 2);
  t.equal(repairs.cumulative[repairs.bounds.indexOf(0.0025)], 1);
  t.equal(repairs.cumulative[repairs.bounds.indexOf(1)], 2);
  t.equal(repairs.sumSeconds, 1.0015);
});

t.test('a day of ten thousand overwrites by as many names leaves it no larger', async (t) => {
  const ledger = new Ledger();
  for (let at = 0; at < 10_000; at++) ledger.lost(loss(at, `name ${at}`));
  t.equal(ledger.overwrites().length, 100);
  t.equal(ledger.overwrites().at(-1)!.at, 'at 9999', 'the newest stay');
  const counted = ledger.counts([]).overwritesByCulprit;
  t.ok(Object.keys(counted).length <= 21);
  t.equal(Object.values(counted).reduce((sum, one) => sum + one, 0), 10_000, 'none is lost from the count');
});
