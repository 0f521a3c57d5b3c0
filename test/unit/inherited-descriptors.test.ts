import t from 'tap';
import { inheritedDescriptors } from '../../agent/core/watch/inherited-descriptors.ts';

const given = { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'guard:events' };
const all = (env: Readonly<Record<string, string>>, pid = 7) => [...inheritedDescriptors(env, pid)];

t.test('descriptors that were kept for us begin at 3, in the order of their names', async (t) => {
  t.same(all(given), [['guard', 3], ['events', 4]]);
});

t.test('those for another process are not ours', async (t) => {
  t.same(all(given, 8), []);
  t.same(all({ LISTEN_FDS: '2', LISTEN_FDNAMES: 'guard:events' }), []);
});

t.test('none were kept, or what says so is no number', async (t) => {
  for (const LISTEN_FDS of ['', '0', '-1', '1e3', '99999', 'two']) t.same(all({ ...given, LISTEN_FDS }), [], LISTEN_FDS);
  t.same(all({}), []);
});

t.test('names are missing', async (t) => {
  t.same(all({ LISTEN_PID: '7', LISTEN_FDS: '1' }), [['unknown', 3]]);
  t.same(all({ ...given, LISTEN_FDS: '3' }), [['guard', 3], ['events', 4], ['unknown', 5]]);
});
