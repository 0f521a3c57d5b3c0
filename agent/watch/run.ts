import { NETLINK_NETFILTER, NETLINK_ROUTE, NFNLGRP_NFTABLES, RTNLGRP, listLinks } from 'node-iptables/netlink';
import { NetlinkRequests, openEvents } from 'node-iptables/kernel';
import { readAudit } from '../effects/audit.ts';
import { culpritOf, isInOurNetwork } from '../effects/culprit.ts';
import { GuardKeeper } from '../effects/guard-keeper.ts';
import { takeLock } from '../effects/instance-lock.ts';
import { KernelRules } from '../effects/kernel-rules.ts';
import { startLegacyPoll } from '../effects/legacy-poll.ts';
import type { Log } from '../effects/log.ts';
import { lookInProcess } from '../effects/look-process.ts';
import { notify } from '../effects/notify.ts';
import { startStatusServer } from '../effects/status-server.ts';
import { inheritedDescriptors } from '../core/watch/inherited-descriptors.ts';
import type { Settings } from '../core/settings.ts';
import { VERSION } from '../version.ts';
import { systemClock } from './clock.ts';
import type { KubernetesReporter } from '../reporters/kubernetes.ts';
import type { Guard } from './needs.ts';
import type { Known } from './status.ts';
import { Watcher } from './watcher.ts';

export interface Daemon {
  /** What starts this program: its file, and arguments before the command. */
  readonly self: readonly [file: string, ...args: readonly string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Reads the settings again. Rejects with a UsageError. */
  readonly reload: () => Promise<Settings>;
  readonly log: Log;
  /** Calls back on SIGTERM and SIGINT, and on SIGHUP. */
  readonly onSignal: (stop: () => void, reload: () => void) => void;
}

const RECEIVE_BYTES = 16 * 1024 * 1024;
/** Nearly all of what a poll costs is to wake up: twice as often is twice the CPU. */
const POLL_MS = 1000;
const PORT_RETRY_MS = 10_000;
const CLOSE_WITHIN_MS = 500;

/** Watches until it is told to stop. */
export async function watchNode(daemon: Daemon, settings: Settings): Promise<void> {
  const { log, env } = daemon;
  // What the kernel calls the owner of the table, and others in their lists.
  process.title = 'imds-guard';
  const kept = inheritedDescriptors(env, process.pid).get('guard');
  const tell = async (text: string, descriptor?: number): Promise<void> => {
    await notify(env['NOTIFY_SOCKET'], text, descriptor).catch((error: unknown) => log.event('warn', `the service manager was not told: ${String(error)}`, {}));
  };
  const netlink = await openRequests(kept).catch((error: unknown) => messageOf(error));
  const known = newKnown();
  const keeper = typeof netlink === 'string' ? undefined : new GuardKeeper(netlink.guard);
  const rules = typeof netlink === 'string' ? undefined : new KernelRules(netlink.rules);
  const pids = { ours: false };
  const watcher = new Watcher(
    {
      clock: systemClock,
      log: (level, message, fields) => log.event(level, message, fields),
      look: lookInProcess({ self: daemon.self, path: env['PATH'], keepsGuard: keeper !== undefined }),
      probe: async ({ all, turn }) => (await import('../effects/probe-node.ts')).probeNode({ agent: `imds-guard/${VERSION}`, all, sparing: true, turn }),
      leaderFails: () => {
        log.event('warn', 'who watches has let the node lie open for ten seconds: watching too', {});
        watcher.take('watching');
      },
      guard: keeper ?? noGuard(String(netlink)),
      rules,
      culprit: (name, pid) => culpritOf(name, pid, { pidsAreTheKernels: pids.ours }),
    },
    settings,
    new Set(typeof netlink === 'string' ? [] : [netlink.guard.port, netlink.rules.port]),
    known,
  );
  const closing: (() => unknown)[] = [];
  let stoodBy = false;
  let stopping = false;
  const stopped = new Promise<void>((stop) => {
    daemon.onSignal(stop, () => {
      daemon.reload().then((again) => {
        log.event('info', 'the settings were read again', {});
        watcher.replaceSettings(again);
      }, (error: unknown) => log.event('error', `the settings stay as they were: ${messageOf(error)}`, {}));
    });
  });

  await subscribe();
  const poll = await startLegacyPoll({
    pollMs: POLL_MS,
    procNet: '/proc/net',
    onChange: (tables) => watcher.onLegacy(tables),
    onTrouble: (error) => log.event('warn', `legacy tables cannot be polled: ${String(error)}`, {}),
  }).catch((error: unknown) => void log.event('warn', `legacy tables cannot be polled: ${String(error)}`, {}));
  if (poll) {
    closing.push(() => poll.stop());
    known.legacy = () => ({ tables: poll.tables().map(({ family, table }) => `${family} ${table}`), ...(poll.tables().length > 0 ? { pollMs: poll.pollMs() } : {}) });
  }
  const audit = await readAudit(({ op, family, pid, comm }) => {
    if (pid === undefined || comm === undefined || !pids.ours || !op?.startsWith('xt_') || (family !== 'ipv4' && family !== 'ipv6')) return;
    // Records are of every network namespace of the machine: only who is seen in ours is named.
    if (isInOurNetwork(pid)) watcher.onLegacyWrite(culpritOf(comm, pid, { pidsAreTheKernels: true }));
  }).catch((error: unknown) => ({ state: 'absent', because: messageOf(error) }) as const);
  known.audit = { state: audit.state, ...(audit.because === undefined ? {} : { because: audit.because }) };
  if (audit.state === 'read') closing.push(() => audit.close());
  const kubernetes = settings.kubernetes === 'none' ? undefined : await reporter();
  if (kubernetes) {
    known.kubernetes = () => kubernetes.state();
    closing.push(() => kubernetes.stop());
  }
  const watchdogMs = watchdogOf(env);
  if (watchdogMs !== undefined) {
    const timer = setInterval(() => void (watcher.alive().ok && tell('WATCHDOG=1')), watchdogMs / 2);
    closing.push(() => clearInterval(timer));
  }
  try {
    await Promise.race([stopped, stand()]);
    await stopped;
    log.event('info', 'stopping: the rules stay', {});
    void tell('STOPPING=1');
  } finally {
    stopping = true;
    watcher.stop();
    await Promise.race([Promise.allSettled(closing.map(async (close) => close())), new Promise((late) => setTimeout(late, CLOSE_WITHIN_MS))]);
  }

  /** Watches, or stands by until whoever does is gone. */
  async function stand(serving = false): Promise<void> {
    if (stopping) return;
    const lock = await takeLock().catch((error: unknown) => ({ held: false, squatter: true, because: `whether there is another instance cannot be asked: ${messageOf(error)}`, leave: () => {} }) as const);
    if (lock.held) closing.push(() => lock.release());
    else closing.push(() => lock.leave());
    if (!lock.held && !lock.squatter) {
      // The one who watches has the port, mostly.
      const served = serving || (await serve().then(() => true, () => false));
      stoodBy = true;
      watcher.take('standing-by', { pid: lock.leader.pid ?? 0 });
      await tell('READY=1\nSTATUS=standing by');
      await lock.whenFree;
      // To give up waiting looks the same.
      return stand(served);
    }
    if (!lock.held) log.event('warn', `watching without the lock: ${lock.because}`, {});
    if (stopping) return;
    // At the start a port that cannot be had is a mistake in the settings; later it must not keep us from our work.
    if (!serving && stoodBy) void serveInTheEnd();
    else if (!serving) await serve();
    watcher.take('watching');
    if (keeper && keeper.state.startsWith('owned')) await tell('FDSTORE=1\nFDNAME=guard\nFDPOLL=0', keeper.descriptor);
    await tell('READY=1\nSTATUS=watching');
  }

  async function serve(): Promise<void> {
    const { port, address, metricsEnabled, metricsAddress } = settings;
    if (port === 0) return;
    const server = await startStatusServer({ port, address, ...(metricsEnabled ? { metricsAddress } : {}) }, { status: () => watcher.status(), alive: () => watcher.alive() });
    closing.push(() => server.close());
  }

  /** Its part of Node (TLS) is only loaded where there is somebody to tell. */
  async function reporter(): Promise<KubernetesReporter | undefined> {
    if (settings.kubeconfig === '' && !env['KUBERNETES_SERVICE_HOST']) return undefined;
    const { startKubernetes } = await import('../reporters/kubernetes.ts');
    return startKubernetes({ env, settings, clock: systemClock, log: (level, message, fields) => log.event(level, message, fields ?? {}), news: () => watcher.news() });
  }

  async function serveInTheEnd(): Promise<void> {
    try {
      await serve();
    } catch (error) {
      log.event('warn', `no endpoints yet: ${messageOf(error)}`, {});
      const timer = systemClock.after(PORT_RETRY_MS, () => void serveInTheEnd());
      closing.push(() => timer.cancel());
    }
  }

  async function subscribe(): Promise<void> {
    if (typeof netlink === 'string') {
      known.events.because = netlink;
      return;
    }
    try {
      const nft = await openEvents({ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES], receiveBytes: RECEIVE_BYTES }, {
        message: (datagram) => watcher.onNetfilter(datagram),
        error: () => watcher.onEventsLost(),
      });
      closing.push(() => nft.close());
      known.events.state = 'subscribed';
      const links = await openEvents({ protocol: NETLINK_ROUTE, groups: [RTNLGRP.LINK, RTNLGRP.TC], receiveBytes: RECEIVE_BYTES }, {
        message: (datagram) => watcher.onRoute(datagram),
        error: () => watcher.onEventsLost(),
      });
      closing.push(() => links.close());
      netlink.links.list(listLinks(), (message) => watcher.onLink(message));
      netlink.links.close();
      known.linksKnown = true;
      pids.ours = rules?.ownPid() === process.pid;
    } catch (error) {
      known.events.state = 'polling';
      known.events.because = messageOf(error);
      log.event('warn', `changes are not told by the kernel: ${known.events.because}`, {});
    }
  }
}

async function openRequests(kept: number | undefined): Promise<{ readonly guard: NetlinkRequests; readonly rules: NetlinkRequests; readonly links: NetlinkRequests }> {
  const guard = await (kept === undefined ? NetlinkRequests.open(NETLINK_NETFILTER) : NetlinkRequests.adopt(kept));
  return { guard, rules: await NetlinkRequests.open(NETLINK_NETFILTER), links: await NetlinkRequests.open(NETLINK_ROUTE) };
}

/** How often systemd wants to hear of us, in milliseconds (sd_watchdog_enabled(3)); undefined where it does not. */
function watchdogOf(env: Daemon['env']): number | undefined {
  const [usec, pid] = [env['WATCHDOG_USEC'], env['WATCHDOG_PID']];
  if (usec === undefined || !/^[1-9]\d*$/.test(usec) || (pid !== undefined && Number(pid) !== process.pid)) return undefined;
  return Number(usec) / 1000;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const noGuard = (because: string): Guard => {
  const absent = { state: 'absent', because } as const;
  return { keep: () => absent, read: () => absent, stands: () => false, state: 'absent' };
};

const newKnown = (): Known => ({
  version: VERSION,
  pid: process.pid,
  startedAt: new Date().toISOString(),
  settings: undefined,
  role: 'watching',
  leader: undefined,
  report: undefined,
  observed: () => ({ state: 'not-tried', because: 'none were sent yet' }),
  probes: () => ({}),
  failure: undefined,
  checkedAtMs: undefined,
  provedBlocked: false,
  guard: { state: 'absent', because: 'not made yet' },
  events: { state: 'polling', received: 0, relevant: 0, lost: 0 },
  linksKnown: false,
  legacy: () => ({ tables: [] }),
  audit: { state: 'absent', because: 'not read' },
  kubernetes: () => undefined,
});
