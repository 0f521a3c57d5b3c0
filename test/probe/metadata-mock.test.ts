// AWS's own mock in the place of IMDS: what a probe says must not hang on how our own server words its answers.
import t from 'tap';
import { nft } from '../kernel/guard.ts';
import { type Lab, makeLab } from '../lab/lab.ts';
import { metadataMock } from '../lab/metadata-mock.ts';
import { classesOf, found, probe } from './world.ts';

t.setTimeout(120_000);

const mock = metadataMock();
const skip = 'missing' in mock ? mock.missing : false;

for (const mode of ['both versions', 'version 2 only'] as const) {
  t.test(`AWS's metadata mock, ${mode}`, { skip }, async (t) => {
    const lab = await makeLab({ pods: { web: 'eni', branch: 'vlan', dropped: 'eni' } });
    t.teardown(lab.remove);
    await startMock(lab, mode === 'version 2 only' ? ['--imdsv2'] : []);
    await nft(lab, `table inet drops {\n chain f {\n type filter hook forward priority filter\n iifname "${lab.pods.dropped.hostInterface}" tcp dport 80 drop\n }\n}\n`);
    const [v1, limited] = mode === 'version 2 only' ? ['v1-off', 'hop-limit'] : ['open', 'open'];
    for (const [hops, v2, kind] of [['none', 'open', 'open'], [2, 'open', 'open'], [1, 'hop-limit', limited]] as const) {
      await lab.setHopLimit(hops);
      const { value } = await probe(lab);
      for (const pod of [lab.pods.web, lab.pods.branch]) t.equal(classesOf(found(value, pod)), `${kind} (${v1}, ${v2})`, `${pod.name}, hop limit ${hops}`);
      t.equal(classesOf(found(value, lab.pods.dropped)), 'dropped (dropped, dropped)');
      t.equal(classesOf(value.control[0]), `open (${v1}, open)`, 'the node itself');
      t.match(value.hopLimit, hops === 'none' ? { ipv4: Number } : { ipv4: hops });
    }
    t.same(await lab.seen(), [], 'the other server has no part in it');
  });
}

async function startMock(lab: Lab, args: readonly string[]): Promise<void> {
  if ('missing' in mock) throw new Error(mock.missing);
  await lab.closeService();
  const running = lab.start(lab.imds, mock.program, ['--hostname', '169.254.169.254', '--port', '80', ...args], { env: { HOME: '/run' } });
  let ended: string | undefined;
  void running.then(({ stderr }) => (ended = stderr));
  // It says that it listens before it does.
  while (!('status' in (await lab.request('node')))) if (ended !== undefined) throw new Error(`the mock has ended: ${ended}`);
}
