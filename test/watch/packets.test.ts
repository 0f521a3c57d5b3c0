// Packets that the daemon sends, in a real node: what they prove, and that nobody is troubled by them.
import t from 'tap';
import { startDaemon } from '../lab/daemon.ts';
import { makeLab } from '../lab/lab.ts';
import { apply, must } from '../kernel/guard.ts';

t.test('packets back the rules, and an interface that goes round the rules is found by them', { timeout: 120_000 }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan', six: 'v6' } });
  t.teardown(() => lab.remove());
  await lab.setHopLimit(2);
  const daemon = startDaemon(lab, ['--resync', '30']);
  t.teardown(() => daemon.stop());
  const backed = await daemon.statusThat((status) => status.observed.state === 'tried');
  t.match(backed, { answer: 'blocked', basis: ['rules', 'packets'], installed: { answer: 'blocked' }, observed: { answer: 'blocked', hopLimit: { ipv4: 2, ipv6: 2 }, found: 3 }, counts: { probes: { blocked: 1 } } });

  const seen = await lab.seen();
  t.ok(seen.length > 0, 'the node itself asked');
  t.same(seen.filter(({ from }) => lab.pods.web.address4 === from || lab.pods.branch.address4 === from || from.startsWith('169.254.172.') || from === lab.pods.six.address6), [], 'no packet of a pod came as far as IMDS');
  t.same([...new Set(seen.map(({ method, path }) => `${method} ${path}`))].sort(), ['GET /latest/meta-data/', 'PUT /latest/api/token'], 'and nothing else was asked for');

  await must(lab, 'ip', 'link', 'add', 'link', 'ens5', 'name', 'eth9', 'netns', lab.pods.web.namespace, 'type', 'macvlan', 'mode', 'bridge');
  await lab.exec(lab.pods.web.namespace, 'ip', ['-batch', '-'], { stdin: 'link set eth9 up\naddr add 10.0.0.77/24 dev eth9\nroute replace default via 10.0.0.1 dev eth9\n' });
  const passed = await daemon.statusThat(({ answer }) => answer === 'open', 60_000);
  // Whether packets find it first or the look: to the one the rules still say blocked, to the other that they cannot tell.
  const reason = /^(PodReachedImds|EvidenceDisagrees)$/;
  t.match(passed, { reason, basis: ['packets'], message: /eni/, installed: { answer: /^(blocked|unknown)$/ } });
  t.match(await daemon.until(({ msg }) => msg === 'pods and IMDS: open'), { reason });
});

t.test('one that is told to send none sends none, and says so', { timeout: 60_000 }, async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(() => lab.remove());
  const daemon = startDaemon(lab, ['--no-probe']);
  t.teardown(() => daemon.stop());
  await daemon.ready();
  await apply(lab);
  t.match(await daemon.status(), { answer: 'blocked', basis: ['rules'], observed: { state: 'not-tried', because: /settings|watches/ }, counts: { probes: {} } });
  t.same(await lab.seen(), []);
});

t.test('a node without pods is sent nothing, and stays blocked by its rules', { timeout: 60_000 }, async (t) => {
  const lab = await makeLab({ pods: {} });
  t.teardown(() => lab.remove());
  const daemon = startDaemon(lab);
  t.teardown(() => daemon.stop());
  t.match(await daemon.statusThat((status) => status.observed.state === 'tried'), { answer: 'blocked', basis: ['rules'], observed: { answer: 'unknown', reason: 'NoPodToProbe', networks: [], control: [] } });
  t.same(await lab.seen(), [], 'not even from the node');
});
