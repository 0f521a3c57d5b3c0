// kube-proxy writes thousands of rules every few seconds on a busy node, and none of them is about IMDS.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { KernelRules } from '../../agent/effects/kernel-rules.ts';
import { NetlinkRequests } from '../../agent/node-iptables/src/kernel/index.ts';
import { NETLINK_NETFILTER } from '../../agent/node-iptables/src/netlink/index.ts';
import { Daemon } from '../bench/watch/daemon.ts';
import { KUBE_NFT_TABLE, kubeNftSync } from '../bench/watch/kube-sync-nft.ts';
import { KUBE_JUMPS, kubeSync, servicesFrom } from '../bench/watch/kube-sync.ts';

const program = fileURLToPath(new URL('../../dist/imds-guard', import.meta.url));
const run = (file: string, args: readonly string[], input = ''): string => execFileSync(file, args, { input, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['pipe', 'pipe', 'inherit'] });
const restore = (payload: string): string => run('iptables-nft-restore', ['--noflush', '--counters'], payload);
const nft = (script: string): string => run('nft', ['-f', '-'], script);

const SERVICES = 400;
const before = servicesFrom(0, SERVICES);
/** One in fifty has a port of the node; those stay as they are, and the new ones have none. */
const withMore = [...before, ...servicesFrom(SERVICES + 1, 40)];
const withOtherPods = servicesFrom(0, SERVICES, 1);

/** In a network namespace of its own: what other tests leave in theirs is on the way of a packet too. */
if (process.env['OWN_NETWORK'] === undefined) await t.spawn('unshare', ['-n', process.execPath, fileURLToPath(import.meta.url)], { env: { ...process.env, OWN_NETWORK: 'yes' } }, 'in a network namespace of its own');
else await everything();

async function everything(): Promise<void> {
  run('ip', ['link', 'set', 'lo', 'up']);
  const requests = await NetlinkRequests.open(NETLINK_NETFILTER);
  t.teardown(() => requests.close());
  const kernel = new KernelRules(requests);

  for (const guard of ['auto', 'none'] as const) {
    await t.test(`iptables, ${guard === 'none' ? 'without' : 'with'} a guard table`, async (t) => {
      clear();
      restore(KUBE_JUMPS);
      restore(kubeSync(before));
      const daemon = await startSettled(t, guard);
      await leadsToNoLook(t, daemon, 'every rule is written again as it was', () => restore(kubeSync(before)));
      await leadsToNoLook(t, daemon, 'new services', () => restore(kubeSync(withMore)));
      await leadsToNoLook(t, daemon, 'other pods behind every service', () => restore(kubeSync(withOtherPods)));
      await isNoticed(t, daemon, () => run('iptables-nft', ['-t', 'nat', '-I', 'PREROUTING', '-d', '169.254.169.254/32', '-p', 'tcp', '-j', 'DNAT', '--to-destination', '10.0.0.9:8181']));
    });

    await t.test(`nftables, ${guard === 'none' ? 'without' : 'with'} a guard table`, async (t) => {
      clear();
      nft(KUBE_NFT_TABLE);
      nft(kubeNftSync(before));
      const daemon = await startSettled(t, guard);
      await leadsToNoLook(t, daemon, 'every rule is written again as it was', () => nft(kubeNftSync(before)));
      await leadsToNoLook(t, daemon, 'new services', () => nft(kubeNftSync(withMore)));
      await leadsToNoLook(t, daemon, 'other pods behind every service', () => nft(kubeNftSync(withOtherPods)));
      await isNoticed(t, daemon, () => nft('add chain ip kube-proxy elsewhere { dnat to 10.0.0.9; }; add element ip kube-proxy service-ips { 169.254.169.254 . tcp . 80 : goto elsewhere }'));
    });
  }

  /** Its second start finds everything in place: it writes nothing, so one look is all there is to do. */
  async function startSettled(t: Test, guard: 'auto' | 'none'): Promise<Daemon> {
    const first = new Daemon(program, { IMDS_GUARD_GUARD: guard });
    await first.blocked();
    await first.stop();
    const daemon = new Daemon(program, { IMDS_GUARD_GUARD: guard });
    t.teardown(() => daemon.stop());
    await daemon.blocked();
    return daemon;
  }

  async function leadsToNoLook(t: Test, daemon: Daemon, what: string, sync: () => unknown): Promise<void> {
    const { counts, events } = await daemon.status();
    sync();
    const after = await whenItHasHeard(daemon);
    t.same(after.counts.checks, counts.checks, what);
    t.equal(after.events.relevant, events.relevant, `${what}: nothing in it matters`);
    t.ok(after.events.received - events.received > 3000, `${what}: although it has heard of all of it (${after.events.received - events.received})`);
    t.equal(after.events.lost, 0);
    t.equal(after.answer, 'blocked');
  }

  async function isNoticed(t: Test, daemon: Daemon, detour: () => unknown): Promise<void> {
    const { events } = await daemon.status();
    const said = daemon.lines.length;
    detour();
    await daemon.line(({ msg }) => /^pods and IMDS: /.test(msg), said);
    const after = await daemon.status();
    t.not(after.answer, 'blocked', 'packets to IMDS that are sent elsewhere are noticed');
    t.equal(after.events.relevant, events.relevant + 1);
  }

  /** The status once it knows of the last change there was: each is told before the program that made it ends. */
  async function whenItHasHeard(daemon: Daemon): ReturnType<Daemon['status']> {
    for (;;) {
      const status = await daemon.status();
      if (status.events.generation === kernel.generation()) return status;
    }
  }
}

function clear(): void {
  run('nft', ['flush', 'ruleset']);
  // One that has outlived its owner is anybody's to delete.
  if (run('nft', ['list', 'tables']).includes('imds-guard')) run('nft', ['delete', 'table', 'inet', 'imds-guard']);
}
