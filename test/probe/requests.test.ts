// What is sent: two paths, a name, a token that lives for a second, and source ports of our own.
import t from 'tap';
import { guard, must, nft } from '../kernel/guard.ts';
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

t.test('check asks for nothing without a token where a token is to be had, and is no client of version 1', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const answer = await guard(lab, ['check', '--output', 'json']);
  const { observed } = JSON.parse(answer.stdout) as { observed: { control: { v1: { class: string } }[]; networks: { v1: { class: string } }[] } };
  t.equal(answer.exitCode, 1);
  t.equal(observed.networks[0]?.v1.class, 'not-asked');
  const seen = await lab.seen();
  t.ok(seen.some(({ method }) => method === 'PUT') && seen.some(({ method, withToken }) => method === 'GET' && withToken));
  t.same(seen.filter(({ method, withToken }) => method === 'GET' && !withToken), [], 'MetadataNoToken stays 0');

  await lab.setHopLimit(1);
  const limited = JSON.parse((await guard(lab, ['check', '--output', 'json'])).stdout) as { observed: typeof observed };
  t.equal(limited.observed.networks[0]?.v1.class, 'open', 'where the hop limit keeps the token, version 1 is asked: it may be on');
  t.same((await lab.seen()).filter(({ method, withToken }) => method === 'GET' && !withToken).map(({ from }) => from), [lab.pods.web.address4], 'by the pod, not by the node');
});

t.test('a token is never printed', async (t) => {
  const lab = await makeLab({ pods: { web: 'eni' } });
  t.teardown(lab.remove);
  const { stdout, stderr } = await probe(lab);
  // The lab's tokens are 42 bytes in base64.
  t.notMatch(`${stdout}${stderr}`, /[A-Za-z0-9+/]{56}/);
});
