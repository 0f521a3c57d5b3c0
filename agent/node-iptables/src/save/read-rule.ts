import type { Family } from '../sets/address.ts';
import { namePattern } from '../sets/name-set.ts';
import { CT_STATE } from '../packet/packet-class.ts';
import { ALWAYS, type Test, all, any, not, ofConnection } from '../packet/test.ts';
import type { Action } from '../trace/program.ts';
import type { Rule } from '../model.ts';
import { BARE_MODULE, MATCH_MODULES, type MatchModule, type MatchOption } from './match-options.ts';
import { TARGETS } from './target-options.ts';
import { addressText, protocolText, readAddresses, readProtocol } from './values.ts';
import { looksLikeOption, quote, quoteWhereNeeded } from './words.ts';

/** A rule with its words understood, as far as they can be. */
export interface ReadRule {
  readonly test: Test;
  readonly action: Action;
  /** What stands behind -j or -g; undefined for a rule that only counts. */
  readonly target: string | undefined;
  /** The words in canonical form, quoted as iptables-save writes them, without `-A CHAIN`. */
  readonly text: string;
  /** The words that could not be read, each group with its option. Empty when the whole rule is understood. */
  readonly unread: readonly string[];
}

/**
 * Reads the words of a rule by the tables of options. What no table knows becomes a question that cannot be decided
 * (a match) or an action that may be anything (a target), so that doubt stays in the answer instead of getting lost.
 */
export function readRule(rule: Rule, family: Family): ReadRule {
  return new RuleReader(rule, family).read();
}

/** The rule as iptables-save prints it: `-A FORWARD -d 192.0.2.7/32 -i eni+ -j DROP`. */
export const ruleText = (rule: Rule, family: Family): string => {
  const { text } = readRule(rule, family);
  return `-A ${quoteWhereNeeded(rule.chain)}${text === '' ? '' : ` ${text}`}`;
};

interface GenericOption extends MatchOption {
  /** iptables-save prints these first and in this order, whatever the order they were given in. */
  readonly order: number;
  readonly name: string;
}

const generic = (order: number, name: string, test: MatchOption['test'], text?: MatchOption['text']): GenericOption =>
  text ? { order, name, values: 1, test, text } : { order, name, values: 1, test };

const SOURCE = generic(0, '-s', ([value], family) => asTest('src', readAddresses(family, value!)), ([value], family) => [addressText(family, value!)]);
const DESTINATION = generic(1, '-d', ([value], family) => asTest('dst', readAddresses(family, value!)), ([value], family) => [addressText(family, value!)]);
const IN = generic(2, '-i', ([value]) => (value === '+' ? ALWAYS : { is: 'iif', pattern: namePattern(value!) }));
const OUT = generic(3, '-o', ([value]) => (value === '+' ? ALWAYS : { is: 'oif', pattern: namePattern(value!) }));
const PROTOCOL = generic(4, '-p', ([value]) => asTest('proto', readProtocol(value!)), ([value]) => [protocolText(value!)]);
/** Second and later fragments. Packets of a class are whole: conntrack puts fragments together before any rule. */
const FRAGMENT: GenericOption = { order: 5, name: '-f', values: 0, test: () => ({ is: 'never' }) };

const GENERIC: Readonly<Record<string, GenericOption>> = {
  '-s': SOURCE, '--source': SOURCE, '--src': SOURCE,
  '-d': DESTINATION, '--destination': DESTINATION, '--dst': DESTINATION,
  '-i': IN, '--in-interface': IN,
  '-o': OUT, '--out-interface': OUT,
  '-p': PROTOCOL, '--protocol': PROTOCOL, '--proto': PROTOCOL,
  '-f': FRAGMENT, '--fragment': FRAGMENT,
};

function asTest(is: 'src' | 'dst' | 'proto', among: ReturnType<typeof readAddresses>): Test | undefined {
  return among && { is, among };
}

/** Names under which iptables loads a module for a bare `-p NAME --dport N`. */
const PROTOCOL_MODULE: Readonly<Record<string, string>> = {
  tcp: 'tcp', '6': 'tcp', udp: 'udp', '17': 'udp', udplite: 'udplite', sctp: 'sctp', dccp: 'dccp',
  icmp: 'icmp', 'ipv6-icmp': 'icmp6', icmpv6: 'icmp6',
};

const NEVER_NEGATED: ReadonlySet<string> = new Set(['-m', '--match', '-j', '--jump', '-g', '--goto']);

/**
 * For a packet that has no connection, `--ctstate` decides alone and the other questions of its match are not asked
 * (xt_conntrack.c: `if (ct == NULL) return info->match_flags & XT_CONNTRACK_STATE`); seen on both backends.
 */
const NO_CONNECTION: Test = { is: 'ctstate', among: CT_STATE.INVALID | CT_STATE.UNTRACKED };

interface OpenMatch {
  readonly module: string;
  readonly known: MatchModule | undefined;
  readonly words: string[];
  readonly tests: Test[];
  /** Questions about the connection, apart from its state. */
  readonly ofConnection: Test[];
  asksState: boolean;
}

/** A row of a table by a word from outside: `constructor` is no row. */
const rowOf = <Row>(rows: Readonly<Record<string, Row>>, name: string): Row | undefined => (Object.hasOwn(rows, name) ? rows[name] : undefined);

class RuleReader {
  private at = 0;
  private readonly words: readonly string[];
  private readonly generics: (string | undefined)[] = [];
  private readonly tests: Test[] = [];
  private readonly matches: OpenMatch[] = [];
  private readonly unread: string[] = [];
  private readonly targetWords: string[] = [];
  private readonly given = new Map<string, readonly string[]>();
  private target: string | undefined;
  private goesTo = false;
  private targetUnread = false;
  private protocol: string | undefined;

  private readonly rule: Rule;
  private readonly family: Family;
  constructor(rule: Rule, family: Family) {
    this.rule = rule;
    this.family = family;
    this.words = rule.words;
  }

  read(): ReadRule {
    while (this.at < this.words.length) this.readOption();
    for (const match of this.matches) {
      if (match.words.length === 0 && match.known) match.tests.push(rowOf(BARE_MODULE, match.module) ?? this.asked(undefined, false, ['-m', match.module]));
      this.tests.push(...match.tests, ...match.ofConnection.map((test) => (match.asksState ? any([NO_CONNECTION, test]) : ofConnection(test))));
    }
    const action = this.action();
    const implied = this.target === undefined ? [] : (rowOf(TARGETS, this.target)?.implied?.(this.given, this.family) ?? []);
    const parts = [
      ...this.generics.filter((text) => text !== undefined),
      ...this.matches.map((match) => ['-m', match.module, ...match.words].join(' ')),
      ...(this.target === undefined ? [] : [[this.goesTo ? '-g' : '-j', quoteWhereNeeded(this.target), ...this.targetWords, ...implied].join(' ')]),
    ];
    if (this.target === undefined && this.targetWords.length > 0) parts.push(this.targetWords.join(' '));
    return { test: all(this.tests.filter((test) => test.is !== 'always')), action, target: this.target, text: this.unread.length > 0 ? this.asGiven() : parts.join(' '), unread: this.unread };
  }

  /** Word for word: what is not understood is not put in another order, and nothing of it gets lost. */
  private asGiven(): string {
    return this.words.map((word, at) => (this.isQuoted(at) ? quote(word) : quoteWhereNeeded(word))).join(' ');
  }

  private readOption(): void {
    let negated = false;
    if (this.words[this.at] === '!' && !this.isQuoted(this.at)) {
      negated = true;
      this.at++;
    }
    const option = this.words[this.at];
    if (option === undefined) return this.keep(['!'], negated);
    this.at++;
    const known = rowOf(GENERIC, option);
    if (known) return this.readGeneric(known, option, negated);
    if (negated && NEVER_NEGATED.has(option)) return this.keep([option, ...this.valuesUntilOption()], true);
    if (option === '-m' || option === '--match') return this.openMatch(this.words[this.at++] ?? '');
    if (option === '-j' || option === '--jump' || option === '-g' || option === '--goto') {
      if (this.target !== undefined) return this.keep([option, ...this.valuesUntilOption()], negated);
      this.goesTo = option === '-g' || option === '--goto';
      this.target = this.words[this.at++];
      return;
    }
    if (this.target !== undefined && this.readTargetOption(option)) return;
    this.readMatchOption(option, negated);
  }

  private readGeneric(known: GenericOption, option: string, negatedBefore: boolean): void {
    let negated = negatedBefore;
    // The form of iptables before 1.4.3: `-s ! 10.0.0.0/8`.
    if (known.values > 0 && this.words[this.at] === '!' && !negated) {
      negated = true;
      this.at++;
    }
    const values = this.words.slice(this.at, this.at + known.values);
    this.at += values.length;
    const test = values.length === known.values ? known.test(values, this.family) : undefined;
    const shown = known.text && test ? known.text(values, this.family) : values.map(quoteWhereNeeded);
    const text = `${negated ? '! ' : ''}${[known.name, ...shown].join(' ')}`;
    if (this.generics[known.order] !== undefined) return this.keep([negated ? '!' : '', option, ...values].filter((word) => word !== ''), false);
    if (known === PROTOCOL && !negated) this.protocol = values[0]?.toLowerCase();
    // `-s 0.0.0.0/0` asks nothing and is not printed; `! -s 0.0.0.0/0` never matches and is.
    const asksNothing = !negated && /^-[sd] (0\.0\.0\.0|::)\/0$|^-p all$|^-[io] \+$/.test(text);
    if (!asksNothing) this.generics[known.order] = text;
    this.tests.push(this.asked(test, negated, [option, ...values]));
  }

  private openMatch(module: string): void {
    const known = Object.hasOwn(MATCH_MODULES, module) ? MATCH_MODULES[module] : undefined;
    const open: OpenMatch = { module, known, words: [], tests: [], ofConnection: [], asksState: false };
    this.matches.push(open);
    if (!known) open.tests.push(this.asked(undefined, false, ['-m', module]));
  }

  private readTargetOption(option: string): boolean {
    const known = rowOf(rowOf(TARGETS, this.target!)?.options ?? {}, option);
    if (!known) {
      if (this.matches.some((match) => match.known && Object.hasOwn(match.known, option))) return false;
      const values = this.valuesUntilOption();
      this.targetUnread = true;
      this.targetWords.push(option, ...values.map(quoteWhereNeeded));
      this.unread.push([option, ...values].join(' '));
      return true;
    }
    const values = this.words.slice(this.at, this.at + known.values);
    this.at += values.length;
    this.given.set(option, values);
    this.targetWords.push(option, ...(known.text && values.length === known.values ? known.text(values) : values.map(quoteWhereNeeded)));
    return true;
  }

  private readMatchOption(option: string, negated: boolean): void {
    const match = this.matchFor(option);
    const known = match?.known && Object.hasOwn(match.known, option) ? match.known[option] : undefined;
    if (!match || !known) {
      const values = this.valuesUntilOption();
      const words = [...(negated ? ['!'] : []), option, ...values];
      if (!match) return this.keep(words, false);
      match.words.push(...words.map(quoteWhereNeeded));
      if (match.known) match.tests.push(this.asked(undefined, negated, words));
      return;
    }
    // The old form again: `--ctstate ! NEW`.
    let isNegated = negated;
    if (known.values > 0 && this.words[this.at] === '!' && !this.isQuoted(this.at)) {
      isNegated = true;
      this.at++;
    }
    const values = this.words.slice(this.at, this.at + known.values);
    this.at += values.length;
    const test = values.length === known.values && !(isNegated && known.asksNothing) ? known.test(values, this.family) : undefined;
    const shown = known.text && values.length === known.values ? known.text(values, this.family) : values.map(quoteWhereNeeded);
    match.words.push(...(isNegated ? ['!'] : []), known.printed ?? option, ...shown);
    const asked = this.asked(test, isNegated, [...(isNegated ? ['!'] : []), option, ...values]);
    (known.ofConnection ? match.ofConnection : match.tests).push(asked);
    match.asksState ||= known.asksState ?? false;
  }

  /** The match an option belongs to: the latest that knows it, the protocol's own, else the latest at all. */
  private matchFor(option: string): OpenMatch | undefined {
    for (let at = this.matches.length - 1; at >= 0; at--) {
      const match = this.matches[at]!;
      if (match.known ? Object.hasOwn(match.known, option) : at === this.matches.length - 1) return match;
    }
    const module = this.protocol === undefined ? undefined : rowOf(PROTOCOL_MODULE, this.protocol);
    if (module !== undefined && Object.hasOwn(MATCH_MODULES[module]!, option)) {
      this.openMatch(module);
      return this.matches.at(-1);
    }
    return this.matches.at(-1);
  }

  private asked(test: Test | undefined, negated: boolean, words: readonly string[]): Test {
    if (test) return negated ? not(test) : test;
    const text = words.join(' ');
    this.unread.push(text);
    return { is: 'maybe', kind: 'unread', why: `cannot read \`${text}\`` };
  }

  /** Words that fit nowhere: kept in the text, and a question that cannot be decided. */
  private keep(words: readonly string[], negated: boolean): void {
    const all = negated && words[0] !== '!' ? ['!', ...words] : words;
    this.targetWords.push(...all.map(quoteWhereNeeded));
    this.tests.push(this.asked(undefined, false, all));
  }

  private action(): Action {
    // Words that cannot be read may hold a target too.
    if (this.target === undefined) return this.unread.length === 0 ? { do: 'nothing' } : { do: 'unread', why: `cannot read \`${this.unread[0]}\`` };
    const known = rowOf(TARGETS, this.target);
    if (this.targetUnread) return { do: 'unread', why: `cannot read \`-j ${[this.target, ...this.targetWords].join(' ')}\`` };
    if (known && !this.goesTo) return known.act(this.given);
    return { do: this.goesTo ? 'goto' : 'jump', chain: this.target };
  }

  private valuesUntilOption(): string[] {
    const values: string[] = [];
    while (this.at < this.words.length && (!looksLikeOption(this.words[this.at]!) || this.isQuoted(this.at))) {
      values.push(this.words[this.at++]!);
    }
    return values;
  }

  private isQuoted(at: number): boolean {
    return this.rule.quoted?.has(at) ?? false;
  }
}
