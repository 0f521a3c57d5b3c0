// A pod that floods IMDS while others are probed: the node sees more packets than anybody can count.
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { must, nft } from '../kernel/guard.ts';
import { makeLab } from '../lab/lab.ts';
import { classesOf, found, probe } from './world.ts';

t.setTimeout(120_000);

const program = fileURLToPath(new URL('flood.py', import.meta.url));
const FLOODERS = 3;

t.test('a pod that floods IMDS neither holds a probe up, nor makes silence a proof', async (t) => {
  const lab = await makeLab({ pods: { loud: 'eni', dark: 'eni', dropped: 'eni' } });
  t.teardown(lab.remove);
  const { loud, dark, dropped } = lab.pods;
  await nft(lab, `table inet drops {\n chain f {\n type filter hook forward priority filter\n iifname "${loud.hostInterface}" tcp dport 80 counter drop\n iifname "${dropped.hostInterface}" tcp dport 80 drop\n }\n}\n`);
  // Its packets leave the node. That they do is among what may be lost.
  await lab.exec(lab.imds, 'nft', ['-f', '-'], { stdin: `table inet dark {\n chain i {\n type filter hook input priority filter\n ip saddr ${dark.address4} tcp dport 80 drop\n }\n}\n` });
  const floods = Array.from({ length: FLOODERS }, () => lab.start(loud.namespace, 'python3', [program]));
  const dropsSoFar = async (): Promise<number> => Number(/counter packets (\d+)/.exec(await must(lab, 'nft', 'list', 'table', 'inet', 'drops'))?.[1]);
  while ((await dropsSoFar()) < 10_000);
  const { exitCode, value } = await probe(lab);
  for (const flood of floods) flood.kill('SIGKILL');
  await Promise.all(floods);
  t.match({ exitCode, answer: value.answer }, { exitCode: 2, answer: 'unknown' });
  t.equal(classesOf(found(value, dark)), 'inconclusive (inconclusive, inconclusive)');
  // Whether there was room for its packets is chance; nothing but the two is true.
  t.match(found(value, dropped)?.class, /^(dropped|inconclusive)$/);
  t.equal(value.control[0]?.class, 'open');
});
