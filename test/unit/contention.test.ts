import t from 'tap';
import { Rivals } from '../../agent/core/watch/contention.ts';

const wall = (ms: number): string => `at ${ms}`;

t.test('who undoes us once or twice is no rival; three times in five minutes is', async (t) => {
  const rivals = new Rivals();
  rivals.undone('calico-node', 'rules', 0);
  rivals.undone('calico-node', 'rules', 5_000);
  t.same(rivals.list(5_000, wall), []);
  rivals.undone('calico-node', 'rules', 15_000);
  t.same(rivals.list(15_000, wall), [{ culprit: 'calico-node', what: 'rules', times: 3, since: 'at 0', doing: 'backing-off' }], "Felix's 5, 10, 20 s");
  const slow = new Rivals();
  for (const at of [0, 200_000, 400_000]) slow.undone('someone', 'rules', at);
  t.same(slow.list(400_000, wall), []);
  t.same(rivals.list(15_000 + 16 * 60_000, wall), [], 'after a quarter of an hour of quiet it is forgotten');
});

t.test('a rival at full speed is answered at once at first, then a few times a second, then every ten seconds', async (t) => {
  const rivals = new Rivals();
  let now = 0;
  let putBack = 0;
  const seconds: number[] = [];
  for (; now < 600_000; now += 10) {
    rivals.undone('iptables', 'rules', now);
    const waitMs = rivals.delayMs('iptables', 'rules', now, true, 0.5);
    if (waitMs > 0) continue;
    putBack += 1;
    seconds[Math.floor(now / 1000)] = (seconds[Math.floor(now / 1000)] ?? 0) + 1;
  }
  t.ok(seconds[0]! >= 20, `${seconds[0]} in the first second`);
  t.ok((seconds[60] ?? 0) <= 6, 'a few a second after a minute');
  t.ok((seconds.slice(300).reduce((sum, one) => sum + (one ?? 0), 0)) <= 40, 'rarely in the end');
  t.ok(putBack < 800, `${putBack} times in ten minutes`);
});

t.test('without the guard table nothing is ever left lying', async (t) => {
  const rivals = new Rivals();
  for (let now = 0; now < 60_000; now += 10) {
    rivals.undone('iptables', 'rules', now);
    if (rivals.delayMs('iptables', 'rules', now, false, 0.5) !== 0) return t.fail(`waited at ${now}`);
  }
  t.pass();
});

t.test('nodes do not wait in step', async (t) => {
  const waits = [0, 1].map((chance) => {
    const rivals = new Rivals();
    for (let count = 0; count < 25; count++) rivals.undone('x', 'rules', 0);
    let last = 0;
    for (let count = 0; count < 25; count++) last = rivals.delayMs('x', 'rules', 0, true, chance);
    return last;
  });
  t.not(waits[0], waits[1]);
});

t.test('a process that calls itself something else each time does not fill the memory', async (t) => {
  const rivals = new Rivals();
  for (let count = 0; count < 10_000; count++) for (let again = 0; again < 3; again++) rivals.undone(`name-${count}`, 'rules', count);
  t.ok(rivals.list(10_000, wall).length <= 64);
});
