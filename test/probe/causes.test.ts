// Every cause by itself: what a client in the pod meets, and what a probe says of it.
import t from 'tap';
import { type Answer, type Lab, type Pod, type PodKind, makeLab } from '../lab/lab.ts';
import { CAUSES, type Cause, type CauseName, type Plot, causeNames, expectedOf, happensTo, play, setScene } from './causes.ts';
import { classesOf, found, probe } from './world.ts';

t.setTimeout(120_000);

/** A pod of each of these kinds for each cause that it can meet. */
function cast(kinds: readonly PodKind[]): { readonly pods: Readonly<Record<string, PodKind>>; readonly parts: ReadonlyMap<string, CauseName> } {
  const parts = new Map<string, CauseName>();
  const pods: Record<string, PodKind> = {};
  for (const kind of kinds) {
    for (const name of causeNames) {
      const pod = `${kind} ${name}`;
      if (!happensTo(name, { kind } as Pod)) continue;
      parts.set(pod, name);
      pods[pod] = kind;
    }
  }
  return { pods, parts };
}

async function makeWorld(kinds: readonly PodKind[]): Promise<{ readonly lab: Lab; readonly plot: Plot }> {
  const { pods, parts } = cast(kinds);
  const lab: Lab = await makeLab({ pods: { ...pods, other: 'v6' }, residents: 'when-asked' });
  const plot = new Map([...parts].map(([pod, name]) => [lab.pods[pod]!, name]));
  await play(await setScene(lab, lab.pods['other']!), plot);
  return { lab, plot };
}

/** What a client in a pod meets where a probe has to say this. */
function metAs(name: CauseName, version: 1 | 2): Partial<Answer> {
  const cause: Cause = CAUSES[name];
  const told = { 1: cause.service?.metadata, 2: cause.service?.token }[version];
  switch (version === 1 ? cause.v1 : cause.v2) {
    case 'open':
      return { fate: 'reached', status: 200, body: 'i-0123456789abcdef0' };
    case 'v1-off':
      return { fate: 'reached', status: 401 };
    case 'forbidden':
    case 'throttled':
      return { fate: 'reached', status: Number(told) };
    case 'hop-limit':
      return { fate: 'timeout', during: 'token' };
    case 'dropped':
      return { fate: 'timeout', during: 'connect' };
    case 'rejected':
      return { fate: 'refused' };
    case 'proxied':
      // The proxy that asks IMDS itself has the same to give as IMDS.
      return { fate: 'reached', status: 200 };
    default:
      return {};
  }
}

t.test('what is set up is what a client in the pod meets, over both families', async (t) => {
  const { lab, plot } = await makeWorld(['v6']);
  t.teardown(lab.remove);
  const asks = [...plot].flatMap(([pod, name]) => ([4, 6] as const).flatMap((family) => ([1, 2] as const).map((version) => ({ pod, name, family, version }))));
  await Promise.all(
    asks.map(async ({ pod, name, family, version }) => {
      const met = metAs(name, version);
      const answer = await lab.request(pod, { family, version, timeoutMs: met.fate === 'reached' || met.fate === 'refused' ? 20_000 : 2000 });
      t.match(answer, met, `${name}, IPv${family}, version ${version}`);
      // Nothing else is left for those that are not to be told apart.
      if (met.fate === undefined) t.notMatch(answer, { fate: 'reached', status: 200 }, `${name}, IPv${family}, version ${version}`);
    }),
  );
});

for (const kinds of [['eni'], ['v6'], ['vlan', 'macvlan']] as const satisfies readonly (readonly PodKind[])[]) {
  t.test(`a probe tells them apart, from ${kinds.join(' and ')} pods`, async (t) => {
    const { lab, plot } = await makeWorld(kinds);
    t.teardown(lab.remove);
    const { exitCode, value } = await probe(lab);
    t.match({ exitCode, answer: value.answer }, { exitCode: 1, answer: 'open' });
    t.same(value.control.map((control) => `${control.family} ${classesOf(control)}`), ['ipv4 open (open, open)', 'ipv6 open (open, open)']);
    t.equal(value.found, plot.size + 1);
    for (const [pod, name] of plot) {
      const { v1, v2 } = expectedOf(name, pod);
      for (const family of ['ipv4', 'ipv6'] as const) {
        const probed = found(value, pod, family);
        const [class1, class2] = family === 'ipv6' && pod.address6 === '' ? ['no-route', 'no-route'] : [v1, v2];
        t.same([probed?.v1.class, probed?.v2.class], [class1, class2], `${pod.name}, ${family}`, { because: [probed?.v1.because, probed?.v2.because] });
      }
    }
  });
}
