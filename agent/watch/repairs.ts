import { Rivals } from '../core/watch/contention.ts';
import type { Entry, Ledger } from '../core/watch/ledger.ts';
import { type OwnRule, ownKey } from '../core/watch/outlook.ts';
import type { ChangedChain, LostRule, WrittenRule } from '../core/watch/transaction.ts';
import { GUARD_TABLE } from '../core/guard-table.ts';
import type { Settings } from '../core/settings.ts';
import type { Contention, Culprit, GuardStatus, Overwrite } from '../core/watch-status.ts';
import type { Timer, WatchNeeds } from './needs.ts';

/** Puts back what an event says is gone, at once; more slowly against somebody who will not stop. */
export class Repairs {
  private readonly needs: Pick<WatchNeeds, 'clock' | 'guard' | 'rules' | 'log'>;
  private readonly ledger: Ledger;
  private readonly rivals = new Rivals();
  /** Lost and not back yet, by `ownKey`. */
  private readonly missing = new Map<string, { readonly lost: LostRule; readonly entry: Entry | undefined }>();
  private readonly written = new Map<string, { readonly rule: OwnRule; readonly handles: readonly bigint[] }>();
  private timer: Timer | undefined;
  guardStatus: GuardStatus = { state: 'absent', because: 'not made yet' };

  constructor(needs: Repairs['needs'], ledger: Ledger) {
    this.needs = needs;
    this.ledger = ledger;
  }

  keepGuard(settings: Settings): GuardStatus {
    const before = this.guardStatus;
    this.guardStatus = this.needs.guard.keep(settings);
    const { state, because } = this.guardStatus;
    if (before.state === state && before.because === because) return this.guardStatus;
    this.needs.log(state === 'absent' && settings.guard !== 'none' ? 'warn' : 'info', `guard table: ${state}`, { because });
    return this.guardStatus;
  }

  /** Somebody deleted or changed a table of ours. */
  guardTouched(tables: readonly string[], who: () => Culprit, settings: Settings, own: Iterable<OwnRule>): void {
    // It was somebody else's: perhaps it can be ours now.
    if (this.guardStatus.state === 'absent') return void this.keepGuard(settings);
    // A table of the other name, which nothing of ours rests on. One that we own nobody can have touched.
    if (this.guardStatus.state === 'owned-persistent' ? this.needs.guard.stands() : this.guardStatus.state === 'plain' && !tables.includes(GUARD_TABLE)) return;
    const startMs = this.needs.clock.now();
    const couldHavePassed = this.othersStand(own) ? 'unknown' : 'yes';
    const { state } = this.keepGuard(settings);
    const backMs = this.needs.clock.now();
    const entry = this.enter(tables.map((table) => `nft inet ${table}`), who(), couldHavePassed, startMs);
    if (state !== 'absent') this.restored([entry], backMs);
  }

  /**
   * Somebody deleted rules of ours. While the guard table stands nobody is in a hurry, and the process is asked about before
   * it has ended; otherwise the rules come first.
   *
   * @returns whether a look is urgent: not when a rival undoes us again and again and the guard table makes it no matter
   */
  rulesLost(lost: readonly LostRule[], name: string, who: () => Culprit, own: Iterable<OwnRule>): boolean {
    const { clock } = this.needs;
    const startMs = clock.now();
    const guarded = this.isGuarded();
    for (const one of lost) this.missing.set(keyOf(one.rule), { lost: one, entry: undefined });
    const couldHavePassed = guarded ? 'no' : this.othersStand(own) ? 'unknown' : 'yes';
    const asked = guarded ? who() : undefined;
    this.rivals.undone(name, RULES, startMs);
    const waitMs = this.rivals.delayMs(name, RULES, startMs, guarded, clock.chance());
    const back = waitMs === 0 && this.putBack();
    const backMs = clock.now();
    const entry = this.enter(lost.map(({ rule }) => ruleWords(rule)), asked ?? who(), couldHavePassed, startMs);
    if (back) this.restored([entry], backMs);
    for (const [key, one] of this.missing) if (one.entry === undefined) this.missing.set(key, { ...one, entry });
    if (waitMs > 0) this.timer ??= clock.after(waitMs, () => this.putBackLater());
    return !guarded || (back && !this.rivals.isRival(name, RULES));
  }

  /** What we have put back, as the kernel calls it. */
  wrote(rules: readonly WrittenRule[]): void {
    for (const { rule, handle } of rules) {
      const known = this.written.get(keyOf(rule)) ?? { rule, handles: [] };
      this.written.set(keyOf(rule), { rule, handles: [...known.handles.slice(-MOST_HANDLES), handle] });
    }
  }

  /** Somebody else wrote a rule of ours: who takes one away to write it anew, or a look. */
  cameBack(rules: readonly WrittenRule[]): void {
    const entries = new Set(rules.map(({ rule }) => this.missing.get(keyOf(rule))?.entry));
    for (const { rule } of rules) this.missing.delete(keyOf(rule));
    this.dropDoubles(rules.map(({ rule }) => keyOf(rule)));
    for (const { entry } of this.missing.values()) entries.delete(entry);
    this.restored([...entries].filter((entry) => entry !== undefined), this.needs.clock.now());
  }

  /**
   * A look that had read before we put a rule back writes it once more, and so does a script that deletes it to write it anew.
   * Those that came by our own socket go, for they are ours for certain.
   */
  dropDoubles(keys: Iterable<string> = [...this.written.keys()]): void {
    for (const key of keys) {
      const known = this.written.get(key);
      if (!known || !this.needs.rules) continue;
      const left = this.needs.rules.dropDoubles(known.rule, new Set(known.handles));
      if (left.size === 0) this.written.delete(key);
      else this.written.set(key, { ...known, handles: [...left] });
    }
  }

  /** A look found everything in place. */
  allIsThere(): void {
    this.missing.clear();
    this.timer?.cancel();
    this.timer = undefined;
    this.ledger.allRestored(this.needs.clock.now());
  }

  /** Told by a look, not by an event: legacy tables, a rule above ours. `sinceMs`: when a change was first heard of. */
  found(lost: readonly string[], culprit: Culprit, own: Iterable<OwnRule>, sinceMs: number): void {
    const passed = lost.some((why) => why.endsWith('a packet passes it'));
    this.enter(lost, culprit, this.isGuarded() ? 'no' : !passed && this.othersStand(own) ? 'unknown' : 'yes', sinceMs);
    this.rivals.undone(culprit.name ?? 'unknown', RULES, this.needs.clock.now());
  }

  /** Somebody's rule is above ours now. Whether that matters a look will tell, where it may; mostly the guard table makes it none. */
  outranked(name: string, chains: readonly ChangedChain[]): void {
    for (const { family, table, chain } of chains) this.rivals.undone(name, `the top of ${family} ${table} ${chain}`, this.needs.clock.now(), this.isGuarded() ? 'left' : 'backing-off');
  }

  /** Other rules are to be kept from now on. */
  forgetMissing(): void {
    this.missing.clear();
    this.written.clear();
  }

  isMissing(rule: OwnRule): boolean {
    return this.missing.has(keyOf(rule));
  }

  contention(): Contention[] {
    return this.rivals.list(this.needs.clock.now(), (ms) => this.needs.clock.wall(ms));
  }

  stop(): void {
    this.timer?.cancel();
  }

  private putBackLater(): void {
    this.timer = undefined;
    this.putBack();
  }

  private putBack(): boolean {
    const { rules } = this.needs;
    if (!rules) return false;
    const waiting = new Set([...this.missing.values()].map(({ entry }) => entry));
    for (const lost of byTable([...this.missing.values()].map((one) => one.lost))) {
      const because = rules.putBack(lost);
      if (because === undefined) for (const { rule } of lost) this.missing.delete(keyOf(rule));
      else this.failed(because);
    }
    for (const { entry } of this.missing.values()) waiting.delete(entry);
    this.restored([...waiting].filter((entry) => entry !== undefined), this.needs.clock.now());
    return this.missing.size === 0;
  }

  private failed(because: string): void {
    this.ledger.failed('put-back');
    this.needs.log('warn', `could not put a rule back: ${because}`, { key: because });
  }

  private restored(entries: readonly Entry[], nowMs: number): void {
    for (const entry of entries) {
      this.ledger.restored(entry, nowMs);
      this.needs.log('info', 'restored', { key: keyOfLoss(entry.loss.culprit, entry.loss.lost), lost: entry.loss.lost, afterMs: entry.restoredAfterMs });
    }
  }

  private isGuarded(): boolean {
    return this.needs.guard.state !== 'absent' && this.needs.guard.stands();
  }

  private enter(lost: readonly string[], culprit: Culprit, couldHavePassed: Overwrite['couldHavePassed'], atMs: number): Entry {
    this.needs.log('warn', 'overwritten', { key: keyOfLoss(culprit, lost), lost, culprit, couldHavePassed });
    return this.ledger.lost({ lost, culprit, couldHavePassed, atMs, at: this.needs.clock.wall(atMs) });
  }

  /** Whether the drop with no interface is there for both families: no proof, for something may accept above it. */
  private othersStand(own: Iterable<OwnRule>): boolean {
    const everywhere = [...own].filter(({ layer }) => layer === 'out-of-reach');
    return everywhere.length > 0 && everywhere.every((rule) => !this.isMissing(rule));
  }
}

const RULES = 'rules';
/** Of one rule: there are never so many. */
const MOST_HANDLES = 100;
/** Repeats in the log: the same by the same. */
const keyOfLoss = ({ name }: Culprit, lost: readonly string[]): string => `${name ?? 'unknown'}: ${lost[0]}${lost.length > 1 ? ` and ${lost.length - 1} more` : ''}`;

const keyOf = ({ family, table, text }: OwnRule): string => ownKey(family, table, text);
const ruleWords = ({ family, table, chain, text }: OwnRule): string => `iptables-nft ${family} ${table} ${chain}: ${text}`;

/** What is gone of one table does not keep the rules of another from coming back. */
const byTable = (lost: readonly LostRule[]): LostRule[][] => [...Map.groupBy(lost, ({ rule }) => `${rule.family} ${rule.table}`).values()];
