// What is sent: two paths, a name, a token that lives for a second, and source ports of our own.
import t from 'tap';
import { must, nft } from '../kernel/guard.ts';
import { makeLab } from '../lab/lab.ts';
import { PROBE_PORTS } from '../../agent/core/probe/pod-network.ts';
import { probe } from './world.ts';

t.setTimeout(60_000);

t.test('nothing is asked for but a token and the first page, by somebody who says who it is', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan', six: 'v6', card: 'macvlan' } });
  t.teardown(lab.remove);
  const ports = `tcp sport != ${PROBE_PORTS.first}-${PROBE_PORTS.last} counter`;
  await nft(lab, `table inet sent {\n chain p {\n type filter hook postrouting priority mangle\n ip daddr 169.254.169.254 ${ports}\n ip6 daddr fd00:ec2::254 ${ports}\n }\n}\n`);
  await probe(lab);
  const seen = await lab.seen();
  t.same(new Set(seen.map(({ method, path }) => `${method} ${path}`)), new Set(['GET /latest/meta-data/', 'PUT /latest/api/token']));
  for (const { userAgent } of seen) t.match(userAgent, /^imds-guard\/\d+\.\d+\.\d+/);
  t.same(new Set(seen.filter(({ method }) => method === 'PUT').map(({ ttlSeconds }) => ttlSeconds)), new Set(['1']));
  t.same(new Set(seen.map(({ from }) => from)), new Set(['10.0.0.10', '2001:db8:0:1::10', ...Object.values(lab.pods).flatMap(({ address4, address6 }) => [address4, ...(address6 === '' ? [] : [address6])])]));
  t.equal(seen.length, 7 * 3, 'from each, over each family it has: a GET, a PUT, and a GET with the token');
  t.same([...(await must(lab, 'nft', 'list', 'table', 'inet', 'sent')).matchAll(/counter packets (\d+)/g)].map(([, packets]) => packets), ['0', '0'], 'all of it from ports of the probe');
});

t.test('a token is never printed', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const { stdout, stderr } = await probe(lab);
  // The lab's tokens are 42 bytes in base64.
  t.notMatch(`${stdout}${stderr}`, /[A-Za-z0-9+/]{56}/);
});
