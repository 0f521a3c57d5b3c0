import { KERNEL_CHAINS, type Chain, type Rule, type Ruleset, TABLE_PRIORITY, type Table, isKernelChain, priorityOf } from '../model.ts';
import type { PacketClass } from '../packet/packet-class.ts';
import { ALWAYS } from '../packet/test.ts';
import { type Family, addressBlock } from '../sets/address.ts';
import type { IntervalSet } from '../sets/interval-set.ts';
import { readRule, ruleText } from '../save/read-rule.ts';
import type { Action, BaseChain, Place, Program, TracedChain, TracedRule } from './program.ts';

/**
 * The chains of an iptables ruleset that the kernel calls, ready to be walked. Rules are read when a packet first
 * comes by, so a table of fifty thousand rules costs only what its path costs.
 *
 * @param knownElsewhere tables whose native rules another listing shows: an 'incompatible' one of these is left out.
 */
export function baseChainsOf(ruleset: Ruleset, knownElsewhere: ReadonlySet<string> = new Set()): BaseChain[] {
  const bases: BaseChain[] = [];
  for (const table of ruleset.tables.values()) {
    const priorities = TABLE_PRIORITY[table.name];
    if (!priorities || (table.state === 'incompatible' && knownElsewhere.has(table.name))) continue;
    const place: Place = { backend: ruleset.backend, family: ruleset.family === 'ipv4' ? 'ip' : 'ip6', table: table.name };
    const chains = new TableChains(table, place, ruleset);
    for (const name of Object.keys(priorities).filter(isKernelChain)) {
      const chain = table.chains.get(name);
      if (!chain && table.state === 'read' && table.unread.length === 0) continue;
      bases.push({
        ...(chains.named(name) ?? { name, place, rules: chains.gaps(name) }),
        hook: KERNEL_CHAINS[name],
        priority: priorityOf(table.name, name, ruleset.backend)!,
        type: table.name === 'nat' ? 'nat' : 'filter',
        policy: policyRule(place, name, chain, table),
        chainNamed: (wanted) => chains.named(wanted),
      });
    }
  }
  return bases;
}

class TableChains {
  private readonly traced = new Map<string, TracedChain>();
  private readonly table: Table;
  private readonly place: Place;
  private readonly ruleset: Ruleset;
  constructor(table: Table, place: Place, ruleset: Ruleset) {
    this.table = table;
    this.place = place;
    this.ruleset = ruleset;
  }

  named(name: string): TracedChain | undefined {
    const known = this.traced.get(name);
    if (known) return known;
    const chain = this.table.chains.get(name);
    if (!chain) return undefined;
    const rules = chain.rules.map((rule, at) => new LazyRule(rule, at + 1, this.place, this.ruleset.family, this.table));
    const traced = tracedChain(name, this.place, [...this.gaps(name), ...rules]);
    this.traced.set(name, traced);
    return traced;
  }

  /** A line that cannot be read may be any rule anywhere in its table, so it stands at the head of every chain. */
  gaps(chain: string): TracedRule[] {
    const { unread, state } = this.table;
    if (state === 'incompatible') return [unreadRule(this.place, chain, 'holds nftables rules that iptables-save cannot show')];
    return unread.map((line) => unreadRule(this.place, chain, `cannot read line ${line.line}: ${line.text} (${line.because})`));
  }
}

/** Shorter chains are walked rule by rule. */
const LONG_CHAIN = 64;

/** A long chain remembers, for each destination or source it was asked about, the few rules that may concern it. */
function tracedChain(name: string, place: Place, rules: readonly TracedRule[]): TracedChain {
  if (rules.length < LONG_CHAIN) return { name, place, rules };
  const known = new Map<string, readonly TracedRule[]>();
  const rulesFor = (packet: PacketClass): readonly TracedRule[] => {
    const key = `${packet.src[0]} ${packet.src[1]} ${packet.dst[0]} ${packet.dst[1]}`;
    const found = known.get(key);
    if (found) return found;
    // By a glance only: to read fifty thousand rules for their ports would cost more than most packets ever meet.
    const few = rules.filter((rule) => !rule.misses?.(packet));
    known.set(key, few);
    return few;
  };
  return { name, place, rules, rulesFor };
}

class LazyRule implements TracedRule {
  readonly place: Place;
  readonly chain: string;
  readonly number: number;
  private readonly rule: Rule;
  private readonly family: Ruleset['family'];
  private read: readonly Program[] | undefined;
  private blocks: Blocks | undefined;
  private readonly table: Table;
  constructor(rule: Rule, number: number, place: Place, family: Ruleset['family'], table: Table) {
    this.table = table;
    this.rule = rule;
    this.number = number;
    this.place = place;
    this.chain = rule.chain;
    this.family = family;
  }
  misses(packet: PacketClass): boolean {
    const { src, dst } = (this.blocks ??= leadingBlocks(this.rule.uncut, this.family));
    return (dst !== undefined && apart(dst, packet.dst)) || (src !== undefined && apart(src, packet.src));
  }
  get leavesAlone(): boolean {
    const target = onlyVerdict(this.rule.uncut);
    return target !== undefined && !this.table.chains.has(target);
  }
  get text(): string {
    return ruleText(this.rule, this.family);
  }
  get programs(): readonly Program[] {
    if (!this.read) {
      const { test, action, target } = readRule(this.rule, this.family);
      this.read = [{ test, act: action.do !== 'jump' && action.do !== 'goto' && target !== undefined && this.table.chains.has(target) ? eitherOf(target) : action }];
    }
    return this.read;
  }
}

/** nft can make a chain DROP, and iptables-nft-save prints a jump to it as `-j DROP` (seen with 1.8.9). */
const eitherOf = (target: string): Action => ({ do: 'unread', why: `${target} is a target and a chain here, and the text does not tell which is meant` });

/** ACCEPT, DROP or RETURN where a line ends in that and has no other -j, not even in a comment. */
function onlyVerdict(line: string | undefined): string | undefined {
  if (line === undefined || line.includes('-g ') || line.includes('--jump') || line.includes('--goto') || line.indexOf('-j ') !== line.lastIndexOf('-j ')) return undefined;
  return VERDICTS.find((verdict) => line.endsWith(` -j ${verdict}`) || line === `-j ${verdict}`);
}
const VERDICTS = ['ACCEPT', 'DROP', 'RETURN'] as const;

interface Blocks {
  readonly src: IntervalSet | undefined;
  readonly dst: IntervalSet | undefined;
}
const NO_BLOCKS: Blocks = { src: undefined, dst: undefined };

/**
 * The addresses that iptables-save prints first, `-s 10.0.0.0/8 -d 10.96.0.1/32 …`, read off the line without cutting
 * it. Most rules of a large table are about other addresses, and this is all that is ever read of them.
 */
function leadingBlocks(line: string | undefined, family: Family): Blocks {
  if (line === undefined || (line.charCodeAt(0) === DASH && line.charCodeAt(1) !== S && line.charCodeAt(1) !== D)) return NO_BLOCKS;
  const src = line.startsWith('-s ') ? blockAt(line, 3, family) : undefined;
  const at = src ? src.end : 0;
  const dst = line.startsWith('-d ', at) ? blockAt(line, at + 3, family) : undefined;
  return { src: src?.block, dst: dst?.block };
}
const [DASH, S, D] = [45, 115, 100];

function blockAt(line: string, from: number, family: Family): { block: IntervalSet; end: number } | undefined {
  if (family === 'ipv4') {
    const plain = plainIPv4At(line, from);
    if (plain) return plain;
  }
  const blank = line.indexOf(' ', from);
  const block = addressBlock(family, blank < 0 ? line.slice(from) : line.slice(from, blank));
  return block && { block, end: blank < 0 ? line.length : blank + 1 };
}

/** `10.0.0.1/32 ` in place, without making a string of it: this is asked of every rule of a large table. */
function plainIPv4At(line: string, from: number): { block: IntervalSet; end: number } | undefined {
  let address = 0;
  let part = 0;
  let dots = 0;
  let length = -1;
  let at = from;
  for (; at < line.length; at++) {
    const code = line.charCodeAt(at);
    if (code >= 48 && code <= 57) {
      if ((length < 0 ? part : length) === 0 && line.charCodeAt(at - 1) === 48) return undefined;
      if (length >= 0) length = length * 10 + code - 48;
      else part = part * 10 + code - 48;
    } else if (code === 46 && length < 0) {
      address = address * 256 + part;
      if (part > 255) return undefined;
      part = 0;
      dots++;
    } else if (code === 47 && length < 0) length = 0;
    else if (code === 32) break;
    else return undefined;
  }
  if (dots !== 3 || part > 255 || length < 1 || length > 32) return undefined;
  const size = 2 ** (32 - length);
  const base = Math.floor((address * 256 + part) / size) * size;
  return { block: [base, base + size], end: at + 1 };
}

const apart = (block: IntervalSet, mine: IntervalSet): boolean =>
  mine.length === 2 && block.length === 2 && (block[1]! <= mine[0]! || mine[1]! <= block[0]!);

const policyRule = (place: Place, name: string, chain: Chain | undefined, table: Table): TracedRule => {
  const policy = table.state === 'incompatible' ? undefined : chain?.policy;
  return {
    place,
    chain: name,
    number: 0,
    text: `-P ${name} ${policy ?? '(not given)'}`,
    programs: [{ test: ALWAYS, act: policyAction(name, policy) }],
  };
};

function policyAction(name: string, policy: string | undefined): Action {
  if (policy === 'ACCEPT') return { do: 'accept' };
  if (policy === 'DROP') return { do: 'drop', how: 'DROP' };
  return { do: 'unread', why: policy === undefined ? `the policy of ${name} was not given` : `cannot read the policy ${policy}` };
}

const unreadRule = (place: Place, chain: string, why: string): TracedRule => ({
  place,
  chain,
  number: 0,
  text: `(${why})`,
  programs: [{ test: ALWAYS, act: { do: 'unread', why } }],
});
