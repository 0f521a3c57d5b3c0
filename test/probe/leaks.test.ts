// One process that probes for a long time: it keeps nothing, and it is never anywhere but at home.
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { nft } from '../kernel/guard.ts';
import { makeLab } from '../lab/lab.ts';
import type { ManyProbes } from './many-probes.ts';

const PROBES = 10_000;
const PODS = 16;
const script = fileURLToPath(new URL('many-probes.ts', import.meta.url));

t.setTimeout(180_000);

t.test(`${PROBES} probes leave no descriptor, and no thread in another's namespace`, async (t) => {
  const lab = await makeLab({ pods: Object.fromEntries(Array.from({ length: PODS }, (_, at) => [`pod${at}`, 'eni' as const])), residents: 'when-asked' });
  t.teardown(lab.remove);
  const pods = Object.values(lab.pods);
  const [refused, cut, off, lost] = pods;
  await nft(lab, `table inet rejects {\n chain f {\n type filter hook forward priority filter\n iifname "${refused!.hostInterface}" reject with tcp reset\n }\n}\n`);
  await lab.setService({ connection: 'reset' }, cut!);
  await lab.setService({ token: 403, metadata: 403 }, off!);
  await lab.exec(lost!.namespace, 'ip', ['addr', 'flush', 'dev', 'eth0']);
  const elsewhere = ['/run/netns/gone', '/run/left-over', '/proc/self/ns/uts', '/run'];
  await lab.exec(lab.node, 'touch', ['/run/left-over']);
  const paths = [...pods.map(({ namespace }) => `/run/netns/${namespace}`), ...elsewhere];
  const rounds = Math.ceil(PROBES / paths.length);
  const ran = await lab.exec(lab.node, process.execPath, [script, String(rounds), ...paths], { env: { NODE_OPTIONS: '' } });
  t.equal(ran.exitCode, 0, ran.stderr);
  const { probes, became, before, after } = JSON.parse(ran.stdout) as ManyProbes;
  t.ok(probes >= PROBES);
  t.same(became, { answered: rounds * (PODS - 3), refused: rounds, broken: rounds, 'no-route': rounds, 'not-entered': rounds * elsewhere.length });
  t.same(after, before);
  t.equal(before.namespaces.length, 1);
});
