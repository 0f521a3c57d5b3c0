import type { Backend } from 'node-iptables';
import { type LinkEvent, type Message, type NftEvent, messagesOf, readLinkEvent, readNftEvent } from 'node-iptables/netlink';
import type { LegacyTable } from '../effects/legacy-poll.ts';
import { GUARD_TABLE, OWNED_GUARD_TABLE } from '../core/guard-table.ts';
import { needsReclaim } from '../core/plan.ts';
import { claimOf, wantsEvery } from '../core/probe/join.ts';
import type { Answer } from '../core/reasons.ts';
import { Ledger } from '../core/watch/ledger.ts';
import { LinkTable } from '../core/watch/link-table.ts';
import type { Look, Role } from '../core/watch/look.ts';
import { lostBySteps, standing } from '../core/watch/missing-steps.ts';
import { chainKey, outlookOf } from '../core/watch/outlook.ts';
import { type Transaction, TransactionReader, isRelevant } from '../core/watch/transaction.ts';
import type { Settings } from '../core/settings.ts';
import { visible } from '../core/visible.ts';
import type { Culprit, WatchStatus } from '../core/watch-status.ts';
import { Baseline } from './baseline.ts';
import { Looks } from './looks.ts';
import type { WatchNeeds } from './needs.ts';
import { Probes } from './probes.ts';
import { Repairs } from './repairs.ts';
import { type Known, answerOf, statusOf } from './status.ts';

/** Sees every change, puts back what is lost, looks again, and knows what to tell. */
export class Watcher {
  private readonly needs: WatchNeeds;
  private readonly known: Known;
  private readonly ledger = new Ledger();
  private readonly reader: TransactionReader;
  private readonly links = new LinkTable();
  private readonly repairs: Repairs;
  private readonly baseline: Baseline | undefined;
  private readonly looks: Looks;
  /** Netlink ports that our own changes come by. */
  private readonly ownPorts: ReadonlySet<number>;
  /** Who changed something on the path since the last look, by name; what it led to is only theirs when it is one. */
  private suspects: Map<string, Culprit> | 'unheard' = new Map();
  /** What changed while the running look goes on; undefined while none does. */
  private met: { readonly chains: Set<string>; structure: boolean } | undefined;
  private backend: Backend | undefined;
  private failingSinceMs: number | undefined;
  private unheard: number | undefined;
  private stood: ReadonlySet<string> = new Set();
  private readonly probes: Probes;
  /** The answer that was told last. */
  private told: Answer | undefined;
  private safety: { cancel(): void } | undefined;
  /** Rules of ours that somebody deleted while the running look goes on. */
  private lossesMet = 0;
  private lookedIn: Settings['mode'] | undefined;
  private putOff = 0;

  constructor(needs: WatchNeeds, settings: Settings, ownPorts: ReadonlySet<number>, known: Known) {
    this.needs = needs;
    this.known = known;
    this.known.settings = settings;
    this.ownPorts = ownPorts;
    this.reader = new TransactionReader(outlookOf(settings, undefined), guardTablesOf(settings));
    this.repairs = new Repairs(needs, this.ledger);
    this.baseline = needs.rules && new Baseline(needs.rules);
    this.looks = new Looks({
      clock: needs.clock,
      resyncMs: () => (this.known.events.state === 'subscribed' ? this.settings.resyncSeconds : Math.min(30, this.settings.resyncSeconds)) * 1000,
      look: (signal) => this.look(signal),
      told: () => this.probes.overtaken(),
      done: (look, sinceMs, changed) => this.looked(look, sinceMs, changed),
    });
    this.probes = new Probes({
      clock: needs.clock,
      everyMs: () => this.settings.probeSeconds * 1000,
      isOn: () => this.isWatching && this.settings.probe && needs.probe !== undefined,
      probe: (options) => needs.probe!(options),
      wantsEvery: (observed) => this.known.report !== undefined && wantsEvery(this.known.report, observed),
      done: () => this.tell(),
    });
    known.observed = () => this.probes.observed();
    known.probes = () => Object.fromEntries(this.probes.answers);
  }

  /** Begins to look, and as the one who watches to write. */
  take(role: Role, leader?: WatchStatus['leader']): void {
    this.known.role = role;
    this.known.leader = leader;
    this.needs.log('info', role === 'watching' ? 'watching' : 'standing by: another instance watches', { leader });
    if (role === 'watching') this.repairs.keepGuard(this.settings);
    if (this.settings.mode === 'observe') this.sayMode();
    this.safety ??= this.checkLater();
    const generation = attempt(() => this.needs.rules?.generation());
    if (generation !== undefined) this.known.events.generation ??= generation;
    this.looks.want('now');
    if (this.known.report) this.probes.schedule();
  }

  replaceSettings(settings: Settings): void {
    const { mode } = this.settings;
    this.known.settings = settings;
    if (settings.mode !== mode) this.changeMode();
    this.reader.outlook = outlookOf(settings, undefined, this.backend);
    this.reader.guardTables = guardTablesOf(settings);
    this.repairs.forgetMissing();
    if (this.isWatching) this.repairs.keepGuard(settings);
    this.looks.want('now');
    this.probes.schedule();
  }

  private sayMode(): void {
    if (this.settings.mode === 'observe') this.needs.log('warn', 'mode observe: nothing is blocked, who asks for IMDS is only counted', {});
    else this.needs.log('info', 'mode enforce: pods are kept from IMDS', {});
  }

  /** What was proved, by rules and by packets, was true of the other mode: until the next look ends nobody knows. */
  private changeMode(): void {
    this.sayMode();
    this.known.report = undefined;
    this.known.provedBlocked = false;
    this.told = undefined;
    this.probes.changed();
  }

  onNetfilter(datagram: Buffer): void {
    this.hear(() => {
      for (const message of messagesOf(datagram)) {
        const event = readNftEvent(message);
        if (event) this.nftEvent(event);
      }
    });
  }

  onRoute(datagram: Buffer): void {
    this.hear(() => {
      for (const message of messagesOf(datagram)) this.onLink(message);
    });
  }

  onLink(message: Message): void {
    const event = readLinkEvent(message);
    if (event) this.linkEvent(event);
  }

  /** The kernel had to throw events away. */
  onEventsLost(): void {
    this.known.events.lost += 1;
    // Who did what was not told: nobody is accused of what the next look finds.
    this.suspects = 'unheard';
    this.needs.log('warn', 'the kernel threw events away: looking again', {});
    this.recheckGuard();
    this.looks.want('now');
  }

  onLegacy(tables: readonly LegacyTable[]): void {
    this.needs.log('debug', 'a legacy table changed', { tables });
    this.looks.want('now');
  }

  /** Somebody changed a table of iptables-legacy, says the audit: somebody else, unless we were about to. */
  onLegacyWrite(culprit: Culprit): void {
    if (this.looks.runningMs() > 0 || this.needs.clock.now() - this.looks.endedMs < OWN_WRITES_HEARD_MS) return;
    this.suspect(`${culprit.name} ${culprit.pid}`, () => culprit);
  }

  status(): WatchStatus {
    this.known.guard = this.isWatching ? { ...this.repairs.guardStatus, ...this.needs.guard.read() } : { state: 'absent', because: 'another instance watches' };
    return statusOf(this.known, {
      now: this.needs.clock.now(), wall: (ms) => this.needs.clock.wall(ms), staleMs: this.looks.staleMs(), ledger: this.ledger, contention: this.repairs.contention(),
      own: (this.isWatching ? [...this.reader.outlook.own.values()] : []).map((rule) => ({ rule, present: this.stood.has(rule.text) && !this.repairs.isMissing(rule) })),
    });
  }

  /** What others are told of. It costs nothing to ask. */
  news(): Pick<WatchStatus, 'role' | 'answer' | 'reason' | 'message' | 'basis' | 'overwrites'> {
    return { role: this.known.role, ...answerOf(this.known, this.looks.staleMs()), overwrites: this.ledger.overwrites() };
  }

  alive(): { readonly ok: boolean; readonly because: string } {
    const ms = this.looks.runningMs();
    return ms > LONGEST_LOOK_MS ? { ok: false, because: `a look has been running for ${Math.round(ms / 1000)} s` } : { ok: true, because: '' };
  }

  stop(): void {
    this.safety?.cancel();
    this.probes.stop();
    this.looks.stop();
    this.repairs.stop();
  }

  private get settings(): Settings {
    return this.known.settings!;
  }

  private get isWatching(): boolean {
    return this.known.role === 'watching';
  }

  private nftEvent(event: NftEvent): void {
    this.known.events.received += 1;
    const transaction = this.reader.read(event);
    if (!transaction) return;
    const { events } = this.known;
    const ahead = events.generation === undefined ? 1 : (transaction.generation - events.generation) | 0;
    if (ahead > 0) events.generation = transaction.generation;
    // One that is missing in the row: what it said may have been counted to this one, so nobody is named.
    if (ahead > 1) this.onEventsLost();
    if (this.ownPorts.has(transaction.port)) return this.repairs.wrote(transaction.wrote);
    if (isRelevant(transaction)) this.transaction(transaction, ahead > 1);
  }

  private transaction(transaction: Transaction, nobodyKnows: boolean): void {
    const { lost, guards, above, wrote, matters, pid } = transaction;
    const name = nobodyKnows ? 'unknown' : visible(transaction.process);
    let culprit: Culprit | undefined;
    const who = (): Culprit => (culprit ??= nobodyKnows ? {} : this.needs.culprit(transaction.process, pid));
    const own = [...this.reader.outlook.own.values()];
    let urgent = true;
    this.lossesMet += lost.length;
    if (this.isWatching) {
      if (guards.length > 0) this.repairs.guardTouched(guards, who, this.settings, own);
      if (wrote.length > 0) this.repairs.cameBack(wrote);
      if (lost.length > 0) urgent = this.repairs.rulesLost(lost, name, who, own);
      if (above.length > 0) this.repairs.outranked(name, above);
    }
    const undone = lost.length > 0 || guards.length > 0;
    const changed = matters.length > 0 || this.isChanged(transaction);
    if (!undone && !changed) return;
    this.known.events.relevant += 1;
    if (!undone) this.suspect(`${name} ${pid}`, who);
    this.looks.want(urgent || changed || guards.length > 0 ? 'now' : 'soon');
  }

  private isChanged(transaction: Transaction): boolean {
    if (transaction.chains.length === 0 && !transaction.structure) return false;
    if (this.met) {
      // Whether it is on the way will be known when the look has ended.
      for (const place of transaction.chains) this.met.chains.add(chainKey(place.family, place.table, place.chain));
      this.met.structure ||= transaction.structure;
      return false;
    }
    return !this.baseline || this.baseline.isChanged(transaction);
  }

  /** While a look runs, its own programs are among those that change things. */
  private suspect(key: string, who: () => Culprit): void {
    if (this.suspects !== 'unheard' && !this.met) this.suspects.set(key, who());
  }

  /** An event that cannot be understood is no reason to die, and one to look. */
  private hear(events: () => void): void {
    try {
      events();
    } catch (error) {
      this.ledger.failed('event');
      this.needs.log('error', `an event could not be read: ${String(error)}`, { key: String(error) });
      this.looks.want('now');
    }
  }

  private linkEvent(event: LinkEvent): void {
    this.known.events.received += 1;
    const change = this.links.apply(event, this.reader.outlook.patterns);
    if (change === 'nothing' || !this.known.linksKnown) return;
    this.known.events.relevant += 1;
    this.looks.want(change === 'pod' ? 'soon' : 'now');
  }

  private async look(signal: AbortSignal): Promise<Look> {
    this.baseline?.forget();
    this.lookedIn = this.settings.mode;
    this.lossesMet = 0;
    this.met = { chains: new Set(), structure: false };
    this.reader.outlook = { ...this.reader.outlook, path: undefined, pathTables: undefined };
    // The first look finds a node on which nothing was put back yet.
    const first = this.known.report === undefined;
    const seen = await this.needs.look(first && this.isWatching, this.settings, signal);
    return this.mustWrite(seen) ? this.needs.look(true, this.settings, signal) : seen;
  }

  /**
   * Mostly there is nothing to write, for what events tell is put back already. A look during which that happened read half
   * of it, and would write it twice: the next one decides, unless that goes on and on.
   */
  private mustWrite(look: Look): boolean {
    if (!this.isWatching || !look.ok || !look.dryRun || (look.steps.length === 0 && (this.settings.mode === 'observe' || !needsReclaim(look.report)))) return false;
    this.putOff = this.lossesMet === 0 ? 0 : (this.putOff + 1) % MOST_PUT_OFF;
    return this.putOff === 0;
  }

  /** @returns whether all is as it should be */
  private looked(look: Look, sinceMs: number, changed: boolean): boolean {
    const { clock, log } = this.needs;
    const { met } = this;
    this.met = undefined;
    // The next look is due already.
    if (this.lookedIn !== this.settings.mode) return true;
    if (!look.ok) {
      this.known.failure = look.because;
      this.told = undefined;
      this.ledger.checked('failed');
      this.ledger.failed('look');
      log('error', `could not look: ${look.because}`, { key: look.because });
      return false;
    }
    const { report, steps, problems, left, unread } = look;
    const isNews = this.known.report === undefined || claimOf(report) !== claimOf(this.known.report);
    this.known.failure = undefined;
    this.known.report = report;
    this.known.checkedAtMs = clock.now();
    this.known.provedBlocked ||= report.answer === 'blocked';
    this.ledger.checked(report.answer);
    // What happened without an event (a link inside a pod's namespace) is known by what the look found.
    if (changed || isNews) this.probes.changed();
    this.tell();
    for (const problem of problems) {
      this.ledger.failed('write');
      log('warn', problem, { key: problem });
    }
    this.backend = look.backend;
    this.reader.outlook = outlookOf(this.settings, report, look.backend);
    const { path } = this.reader.outlook;
    if (met && (met.structure || [...met.chains].some((key) => !path || path.has(key)))) this.looks.want('now');
    const own = [...this.reader.outlook.own.values()];
    this.repairs.dropDoubles();
    const lost = look.dryRun ? [] : lostBySteps(steps, this.stood, this.known.events.state === 'subscribed');
    if (lost.length > 0) this.repairs.found(lost, this.onlySuspect(), own, sinceMs);
    this.suspects = new Map();
    this.stood = this.isWatching ? standing(own, look) : new Set();
    if (this.isWatching && left.length === 0 && unread.length === 0) this.repairs.allIsThere();
    if (!this.isWatching) this.judgeLeader(report.answer !== 'blocked' && left.length > 0);
    if (!this.looks.isDirty) this.baseline?.take(report.path ?? []);
    return (report.answer === 'blocked' || this.settings.mode === 'observe') && problems.length === 0 && (left.length === 0 || !this.isWatching);
  }

  /** Says the answer when it is another than the last. */
  private tell(): void {
    const { answer, reason, message, basis } = answerOf(this.known, 0);
    if (this.known.failure !== undefined || !this.known.report || answer === this.told) return;
    this.told = answer;
    this.known.provedBlocked ||= answer === 'blocked';
    this.needs.log(answer === 'blocked' ? 'info' : 'warn', `pods and IMDS: ${answer}`, { reason, ...(basis.includes('packets') ? { basis } : {}), ...(message === '' ? {} : { message }) });
  }

  private onlySuspect(): Culprit {
    return this.suspects !== 'unheard' && this.suspects.size === 1 ? this.suspects.values().next().value! : {};
  }

  /** One who watches, and has not written for ten seconds what is missing, hangs or is none of us. */
  private judgeLeader(failing: boolean): void {
    const now = this.needs.clock.now();
    this.failingSinceMs = failing ? (this.failingSinceMs ?? now) : undefined;
    if (this.failingSinceMs !== undefined && now - this.failingSinceMs >= LEADER_FAILS_MS) this.needs.leaderFails();
  }

  /** Cheap, and no process: is the last change that we heard of the last there was? Does our table stand? */
  private checkLater(): { cancel(): void } {
    const { clock, rules } = this.needs;
    return clock.after(SAFETY_MS * (0.75 + clock.chance() / 2), () => {
      const generation = attempt(() => rules?.generation());
      const { events } = this.known;
      if (events.state === 'subscribed' && generation !== undefined && events.generation !== undefined && generation !== events.generation) {
        // One that is on its way here is no loss; it will have come by the next time.
        if (this.unheard === generation) {
          events.generation = generation;
          this.onEventsLost();
        }
        this.unheard = generation;
      }
      this.recheckGuard();
      this.safety = this.checkLater();
    });
  }

  private recheckGuard(): void {
    if (!this.isWatching || this.settings.guard === 'none' || this.needs.guard.stands()) return;
    this.repairs.keepGuard(this.settings);
  }
}

const LEADER_FAILS_MS = 10_000;
/** So often in a row a look does not write because it met a repair. */
const MOST_PUT_OFF = 4;
const SAFETY_MS = 15_000;
/** A record of the audit comes through a thread of the kernel, a moment after what it tells of. */
const OWN_WRITES_HEARD_MS = 1000;
const LONGEST_LOOK_MS = 5 * 60_000;

/** Without one to keep, a table of that name is like any other. */
const guardTablesOf = ({ guard }: Settings): ReadonlySet<string> => new Set(guard === 'none' ? [] : [GUARD_TABLE, OWNED_GUARD_TABLE]);

function attempt<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}
