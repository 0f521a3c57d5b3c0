// Many pods at once, of every kind, each with a cause that chance gave it: what the probe says of each is what was set up.
//
//   SEED=7 ROUNDS=100 node test/lab/sandbox.ts node test/probe/mixed.test.ts
import t from 'tap';
import { type Random, randomOf } from '../fuzz/random.ts';
import { type Lab, type Pod, type PodKind, makeLab } from '../lab/lab.ts';
import { type CauseName, type Plot, causeNames, expectedOf, happensTo, play, setScene } from './causes.ts';
import { classesOf, found, probe } from './world.ts';

const seed = Number(process.env['SEED'] || 20_261_124);
const rounds = Number(process.env['ROUNDS'] || 8);
const KINDS: readonly PodKind[] = ['eni', 'eni', 'v6', 'v6', 'vlan'];
const PODS = 50;

t.setTimeout(60_000 + rounds * 20_000);

/** What nobody set up cannot be seen: of two that share the network of a macvlan card, the node sees too little of either. */
const pods = Object.fromEntries([...Array.from({ length: PODS }, (_, at) => [`pod${at}`, KINDS[at % KINDS.length]!]), ['card', 'macvlan'], ['other', 'v6']]) as Record<string, PodKind>;

const choose = (pod: Pod, random: Random): CauseName => random.pick(causeNames.filter((name) => happensTo(name, pod)));

t.test(`${rounds} rounds of ${PODS + 1} pods from seed ${seed}: no pod is called by another's name`, async (t) => {
  const lab: Lab = await makeLab({ pods, residents: 'when-asked' });
  t.teardown(lab.remove);
  const scene = await setScene(lab, lab.pods['other']!);
  const random = randomOf(seed);
  let before: Plot = new Map();
  let trials = 0;
  for (let round = 1; round <= rounds; round++) {
    const plot: Plot = new Map(Object.values(lab.pods).filter((pod) => pod !== scene.other).map((pod) => [pod, choose(pod, random)]));
    await play(scene, plot, before);
    before = plot;
    const { value } = await probe(lab);
    const wrong = [...plot].flatMap(([pod, name]) =>
      (pod.address6 === '' ? (['ipv4'] as const) : (['ipv4', 'ipv6'] as const)).flatMap((family) => {
        trials += 1;
        const probed = found(value, pod, family);
        const { v1, v2 } = expectedOf(name, pod);
        const isRight = probed?.v1.class === v1 && probed.v2.class === v2;
        return isRight ? [] : [{ pod: `${pod.kind}, ${family}`, name, is: [v1, v2], said: classesOf(probed), because: [probed?.v1.because, probed?.v2.because] }];
      }),
    );
    t.same(wrong, [], `round ${round}`);
    t.same(value.control.map(({ class: kind }) => kind), ['open', 'open'], `round ${round}: the node itself`);
  }
  t.ok(trials >= rounds * PODS, `${trials} trials`);
});
