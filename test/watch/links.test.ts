// Interfaces of pods come and go with the pods: what matters of it is looked at, what does not is not, and pods stay blocked.
import t, { type Test } from 'tap';
import type { WatchStatus } from '../../agent/core/watch-status.ts';
import { startDaemon } from '../lab/daemon.ts';
import { type Lab, makeLab } from '../lab/lab.ts';
import { dies, must, saved } from '../kernel/guard.ts';

const GROUP = '77';
const LINKS = 200;
const AT_ONCE = 50;

async function makeNode(t: Test) {
  const lab = await makeLab({ pods: { web: 'eni', spare: 'eni' } });
  t.teardown(lab.remove);
  const daemon = startDaemon(lab);
  t.teardown(daemon.stop);
  await daemon.ready();
  return { lab, daemon };
}

const looksOf = ({ counts }: WatchStatus): number => Object.values(counts.checks).reduce((sum, one) => sum + one, 0);
/** `ip` on the node; the other end of a veth goes to the spare pod. */
const ip = (lab: Lab, lines: readonly string[]): Promise<string> => must(lab, 'sh', '-ec', `ip -batch - <<'END'\n${lines.join('\n')}\nEND`);
/** Not one of the documented ones, so it carries our name. */
const ruleFor = (pattern: string): string => `-A FORWARD -d 169.254.169.254/32 -i ${pattern} -m comment --comment imds-guard -j DROP`;
const far = (lab: Lab<'spare'>): string => lab.pods.spare.namespace;

t.test(`${LINKS} pods come and go: few looks, blocked all the while`, async (t) => {
  const { lab, daemon } = await makeNode(t);
  const before = await daemon.status();
  for (let made = 0; made < LINKS; made += AT_ONCE) {
    const names = Array.from({ length: AT_ONCE }, (_, at) => `eni${(made + at).toString(16).padStart(8, '0')}`);
    await ip(lab, names.flatMap((name, at) => [`link add ${name} group ${GROUP} type veth peer name far${at} netns ${far(lab)}`, `link set ${name} up`]));
    t.ok(await dies(lab, lab.pods.web), `blocked while there are ${AT_ONCE} more`);
    t.equal((await daemon.status()).answer, 'blocked');
    await must(lab, 'ip', 'link', 'del', 'group', GROUP);
  }
  const after = await daemon.statusThat((status) => looksOf(status) > looksOf(before));
  t.ok(after.events.relevant - before.events.relevant >= LINKS, 'each was noticed');
  t.ok(looksOf(after) - looksOf(before) < LINKS / 10, `and there were ${looksOf(after) - looksOf(before)} looks`);
  t.equal(after.answer, 'blocked');
  t.equal(after.events.lost, 0);
});

t.test('a link to another namespace whose name fits no pattern gets a rule', async (t) => {
  const { lab, daemon } = await makeNode(t);
  t.notMatch(await saved(lab, 'nft'), 'mesh0');
  await ip(lab, [`link add mesh0 type veth peer name mesh netns ${far(lab)}`, 'link set mesh0 up']);
  await daemon.statusThat(({ report }) => report?.targets.some((target) => target.interface === 'mesh0') ?? false);
  t.match(await saved(lab, 'nft'), ruleFor('mesh0'));
  const status = await daemon.statusThat(({ answer }) => answer === 'blocked');
  const lost = status.overwrites.length;
  await must(lab, 'iptables-nft', ...ruleFor('mesh0').replace('-A', '-D').split(' '));
  const again = await daemon.statusThat(({ overwrites }) => overwrites.length > lost);
  t.match(again.overwrites.at(-1), { culprit: { name: 'iptables-nft' } }, 'which is kept as the others are');
  t.match(await saved(lab, 'nft'), ruleFor('mesh0'));
});

t.test('a pod whose link is there before its name is', async (t) => {
  const { lab, daemon } = await makeNode(t);
  await ip(lab, [`link add tmp4711 type veth peer name tmp netns ${far(lab)}`]);
  await ip(lab, ['link set tmp4711 name lxc4711', 'link set lxc4711 up']);
  await daemon.statusThat(({ report }) => report?.targets.some((target) => target.interface === 'lxc+') ?? false);
  t.match(await saved(lab, 'nft'), ruleFor('lxc+'));
});

t.test('what becomes of a link that is no pod\'s is only counted', async (t) => {
  const { lab, daemon } = await makeNode(t);
  const without = await daemon.status();
  await ip(lab, ['link add here0 type veth peer name here1']);
  const before = await daemon.statusThat(({ events, counts }) => events.relevant > without.events.relevant && counts.checks.blocked > without.counts.checks.blocked);
  await ip(lab, ['link set here0 up', 'link set here1 up', 'link set here0 mtu 1400', 'link set here0 down']);
  // Each is told before `ip` ends.
  const after = await daemon.statusThat(({ events }) => events.received >= before.events.received + 4);
  t.equal(after.events.relevant, before.events.relevant);
});
