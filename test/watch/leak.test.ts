// No pod gets one token, whoever rewrites the firewall; the same for longer is `make soak`.
import t, { type Test } from 'tap';
import { startDaemon } from '../lab/daemon.ts';
import { makeLab } from '../lab/lab.ts';
import { dies, iptables, passes, restore } from '../kernel/guard.ts';
import { podsOfRound, round, type Outcome, type RoundOptions } from '../soak/round.ts';

const fewestAttempts = 1000;

const told = ({ rounds, attempts, arrived, backAfterMs }: Outcome): string => `${attempts} attempts in ${rounds} rounds, ${arrived} packets arrived, in order after ${backAfterMs} ms`;

async function holds(t: Test, options: RoundOptions): Promise<Outcome> {
  const outcome = await round(options);
  t.comment(told(outcome));
  t.ok(outcome.attempts >= fewestAttempts, `${outcome.attempts} attempts`);
  t.ok(outcome.rounds > 0, `the adversary works: ${outcome.trouble}`);
  const { tokens, version1, connected, arrived } = outcome;
  t.same({ tokens, version1, connected, arrived }, { tokens: 0, version1: 0, connected: 0, arrived: 0 });
  t.ok(outcome.live.asked > 0);
  t.equal(outcome.live.answered, 0, 'connections from before are dead, and stay so');
  t.equal(outcome.status?.answer, 'blocked');
  t.same(outcome.missing, [], 'all rules are in place again');
  t.ok(outcome.nodeReaches);
  return outcome;
}

t.test('the hammers get what they ask for where there is no daemon', async (t) => {
  const outcome = await round({ adversary: 'nobody', daemon: 'none', seconds: 1.5 });
  t.comment(told(outcome));
  t.same(Object.keys(outcome.pods), Object.keys(podsOfRound));
  for (const [name, { tokens, version1, version2, live, failed }] of Object.entries(outcome.pods)) {
    t.ok(tokens > 50 && version1 > 50 && version2 > 50, `${name}: ${tokens} tokens, ${version1} and ${version2} answers`);
    t.ok(live.answered > 0, `${name}: a connection from before lives`);
    t.same(failed, {});
  }
  t.ok(outcome.attempts >= fewestAttempts);
  t.ok(outcome.arrived > outcome.attempts);
});

for (const adversary of ['flushed', 'ruleset', 'restored', 'accepted'] as const) {
  t.test(`${adversary}: without the guard table tokens are got, before what was lost is put back`, async (t) => {
    const { tokens, arrived, leaks, missing, status } = await round({ adversary, daemon: 'alone', args: ['--guard', 'none'], seconds: 1 });
    t.ok(tokens > 0 && arrived > 0 && leaks.length > 0, `${tokens} tokens`);
    t.same(missing, []);
    t.equal(status?.answer, 'blocked');
  });
}

for (const adversary of ['flushed', 'ruleset', 'restored', 'deleted', 'accepted', 'calico', 'policies', 'links'] as const) {
  t.test(`${adversary}: no token`, async (t) => {
    const { status, attempts } = await holds(t, { adversary, daemon: 'alone', seconds: 2 });
    const { ipv4 = 0, ipv6 = 0 } = status?.guard.droppedPackets ?? {};
    t.ok(ipv4 + ipv6 > attempts / 2, `the attempts were real: the guard table dropped ${ipv4 + ipv6} packets`);
  });
}

t.test('flushed, on a node with iptables-legacy: no token', (t) => holds(t, { adversary: 'flushed', daemon: 'alone', args: ['--backend', 'legacy'], backend: 'legacy', seconds: 2 }));

t.test('the guard table deleted, emptied, put to sleep: no token', (t) => holds(t, { adversary: 'unguarded', daemon: 'alone', seconds: 2 }));

t.test('the daemon killed at every point of its life: no token', (t) => holds(t, { adversary: 'killed', daemon: 'alone', seconds: 3 }));

t.test('all of them at once: no token', (t) => holds(t, { adversary: 'together', daemon: 'alone', seconds: 10 }));

t.test('all at once, and the daemon killed again and again while a service manager keeps its socket: no token', (t) => holds(t, { adversary: 'all-killed', daemon: 'kept', seconds: 4 }));

/** Calico since v3.16: what goes on is accepted in its chain on top, what is new by its mark at the very end. kube-proxy's chain comes next. */
const above = [
  '*filter',
  ':cali-FORWARD - [0:0]', ':cali-fw - [0:0]', ':KUBE-FORWARD - [0:0]',
  '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
  '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
  '-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT',
  '-A FORWARD -m comment --comment "cali:mp77cMpurHhyjLrM" -j MARK --set-xmark 0x10000/0x10000',
];
const chainsOf = {
  Calico: ['-A cali-FORWARD -i eni+ -j cali-fw', '-A cali-fw -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', '-A cali-fw -j MARK --set-xmark 0x10000/0x10000'],
  'kube-proxy': ['-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP', '-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT', '-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
} as const;

for (const who of ['Calico', 'kube-proxy'] as const) {
  for (const guard of ['auto', 'none'] as const) {
    t.test(`a connection that ${who} accepts above the documented rule dies when the daemon starts (guard table: ${guard})`, async (t) => {
      const lab = await makeLab({ pods: { web: 'eni' } });
      t.teardown(lab.remove);
      await restore(lab, 'nft', [...above, ...chainsOf[who], 'COMMIT']);
      const lives = await Promise.all([0, 1].map(() => lab.openLive(lab.pods.web)));
      await iptables(lab, 'nft', '-I FORWARD 3 -i eni+ -d 169.254.169.254/32 -j DROP');
      t.ok(await dies(lab, lab.pods.web), 'the documented rule keeps new ones away');
      for (const live of lives) t.match(await live.request(), { fate: 'reached', status: 200 }, 'and lets this one live');

      const daemon = startDaemon(lab, ['--guard', guard]);
      t.teardown(daemon.stop);
      await daemon.ready();
      t.match(await lives[0]?.request({ timeoutMs: 700 }), { fate: 'timeout' });
      await daemon.stop();
      t.match(await lives[1]?.request({ timeoutMs: 700 }), { fate: 'timeout' }, 'also when the daemon is gone');
      t.ok(await passes(lab, 'node'));
    });
  }
}
