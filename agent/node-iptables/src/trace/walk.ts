import {
  CT_STATE,
  CT_STATUS,
  type Doubt,
  type PacketClass,
  doubting,
  hasConnection,
  hull,
  includesClass,
  mergeExactly,
} from '../packet/packet-class.ts';
import { TOO_FINE, split, surelyNot } from '../packet/test.ts';
import { UNKNOWN_BITS, takeBits, xmark } from '../sets/bits.ts';
import { EVERY_ADDRESS } from '../sets/address.ts';
import { type IntervalSet, isOne } from '../sets/interval-set.ts';
import type { Action, BaseChain, Program, TracedChain, TracedRule } from './program.ts';

/** What came of the classes that entered a base chain. */
export interface Walked {
  /** What goes on to the next base chain. */
  readonly passed: PacketClass[];
}

/** Told of each packet class whose way ends, and of each rule that took one. Shared by all chains of one path. */
export interface Witnesses {
  dropped(packet: PacketClass, by: TracedRule): void;
  redirected(packet: PacketClass, by: TracedRule, to: string): void;
  took?(packet: PacketClass, rule: TracedRule, action: Action): void;
  /** A base chain is about to be walked. */
  meets?(base: BaseChain): void;
  /** Some packets enter a chain: a base chain, or one that a rule sends them to. */
  enters?(chain: TracedChain): void;
}

/** How much work one question may cost before the rest is given up as a doubt: about a second of CPU. */
export class Effort {
  private left: number;
  constructor(ruleVisits = 5_000_000) {
    this.left = ruleVisits;
  }
  spent(visits: number): boolean {
    this.left -= visits;
    return this.left < 0;
  }
}

/** More classes than this at one rule are joined into larger ones, first exactly, then with a doubt of kind 'size'. */
const MOST_CLASSES = 96;
/** So many of them stay exact, for a witness to be found among. */
const MOST_EXACT = 32;
/** Deeper than this no kernel lets jumps nest (nf_tables: NFT_JUMP_STACK_SIZE 16; x_tables refuses loops). */
const DEEPEST = 64;
const COST_OF_JUMP = 200;

/** Walks one base chain: rules in order, jumps followed, the policy last. */
export function walkBase(base: BaseChain, entering: readonly PacketClass[], witnesses: Witnesses, effort: Effort): Walked {
  const walker = new Walker(base, witnesses, effort);
  const { accepted, returned } = walker.chain(base, entering, 0);
  for (const program of base.policy.programs) walker.run(program, base.policy, returned, { accepted, returned: [], live: [] }, 0);
  return { passed: simplify(accepted, effort) };
}

interface Outcome {
  /** Ended the base chain with accept. */
  readonly accepted: PacketClass[];
  /** Go back to the calling chain. */
  readonly returned: PacketClass[];
  /** Go on with the next rule. */
  readonly live: PacketClass[];
}

class Walker {
  private readonly base: BaseChain;
  private readonly witnesses: Witnesses;
  private readonly effort: Effort;
  /** The chains that the packet is in, the outermost first. */
  private readonly within: string[] = [];
  constructor(base: BaseChain, witnesses: Witnesses, effort: Effort) {
    this.base = base;
    this.witnesses = witnesses;
    this.effort = effort;
  }

  chain(chain: TracedChain, entering: readonly PacketClass[], depth: number): Pick<Outcome, 'accepted' | 'returned'> {
    const accepted: PacketClass[] = [];
    const returned: PacketClass[] = [];
    this.witnesses.enters?.(chain);
    let live = simplify(entering, this.effort);
    for (const rule of rulesToAsk(chain, live)) {
      if (live.length === 0) break;
      if (this.effort.spent(live.length)) return { accepted: [...accepted, ...this.givenUp(live, rule)], returned };
      if (rule.misses && missesAll(rule, live)) continue;
      for (const program of rule.programs) {
        if (surelyNone(program, live)) continue;
        const after: Outcome = { accepted, returned, live: [] };
        this.run(program, rule, live, after, depth);
        live = after.live.length > 1 ? simplify(after.live, this.effort) : after.live;
        if (accepted.length > 2 * MOST_CLASSES) accepted.splice(MOST_EXACT, accepted.length, ...joined(accepted.slice(MOST_EXACT)));
      }
    }
    returned.push(...live);
    return { accepted, returned };
  }

  run(program: Program, rule: TracedRule, packets: readonly PacketClass[], out: Outcome, depth: number): void {
    const taken: PacketClass[] = [];
    for (const packet of packets) split(packet, program.test, rule, taken, out.live);
    if (taken.length === 0) return;
    const going: PacketClass[] = [];
    this.act(program.act, rule, taken, { ...out, live: going }, depth);
    if (program.then && going.length > 0) this.run(program.then, rule, going, out, depth);
    else out.live.push(...going);
  }

  private act(action: Action, rule: TracedRule, taken: PacketClass[], out: Outcome, depth: number): void {
    if (this.witnesses.took) for (const packet of taken) this.witnesses.took(packet, rule, action);
    switch (action.do) {
      case 'nothing':
        out.live.push(...taken);
        return;
      case 'accept':
        out.accepted.push(...(action.translates ? taken.map(sourceTranslated) : taken));
        return;
      case 'return':
        out.returned.push(...taken);
        return;
      case 'drop':
        for (const packet of taken) this.witnesses.dropped(packet, rule);
        return;
      case 'redirect':
        for (const packet of taken) this.witnesses.redirected(packet, rule, action.to);
        return;
      case 'jump':
      case 'goto':
        this.enter(action, rule, taken, out, depth);
        return;
      case 'notrack':
        for (const packet of taken) out.live.push(...untracked(packet));
        return;
      case 'xmark':
        for (const packet of taken) {
          const marks = action.on === 'mark' || hasConnection(packet);
          out.live.push(marks ? { ...packet, [action.on]: xmark(packet[action.on], action.value, action.mask) } : packet);
        }
        return;
      case 'copy-mark':
        for (const packet of taken) out.live.push(hasConnection(packet) ? copyMark(packet, action) : packet);
        return;
      case 'blur':
        for (const packet of taken) out.live.push({ ...packet, [action.on]: UNKNOWN_BITS });
        return;
      case 'unread':
        for (const packet of taken) {
          const doubted = this.anything(packet, { kind: 'unread', why: action.why, at: rule });
          out.accepted.push(...doubted);
          out.live.push(...doubted);
        }
        return;
      default:
        return action satisfies never;
    }
  }

  private enter(action: { do: 'jump' | 'goto'; chain: string }, rule: TracedRule, taken: PacketClass[], out: Outcome, depth: number): void {
    const target = this.base.chainNamed(action.chain);
    const loops = this.within.includes(action.chain);
    if (target === undefined || loops || depth >= DEEPEST) {
      const why = !target ? `the chain ${action.chain} was not given` : loops ? `the chain ${action.chain} leads to itself, which no kernel lets it` : 'jumps nest deeper than any kernel lets them';
      const doubted = taken.flatMap((packet) => this.anything(packet, { kind: 'unread', why, at: rule }));
      out.accepted.push(...doubted);
      (action.do === 'jump' ? out.live : out.returned).push(...doubted);
      return;
    }
    // As dear as so many rules that a glance settles: thirty chains of two jumps each are a billion ways.
    this.effort.spent(COST_OF_JUMP);
    this.within.push(action.chain);
    const inner = this.chain(target, taken, depth + 1);
    this.within.pop();
    out.accepted.push(...inner.accepted);
    (action.do === 'jump' ? out.live : out.returned).push(...inner.returned);
  }

  private givenUp(live: readonly PacketClass[], rule: TracedRule): PacketClass[] {
    return live.flatMap((packet) => this.anything(packet, { kind: 'size', why: 'the ruleset is too large to follow every path', at: rule }));
  }

  /** Something unknown happened to the packet: it may have been marked and, before conntrack saw it, kept from it. */
  private anything(packet: PacketClass, doubt: Doubt): PacketClass[] {
    const doubted = { ...doubting(packet, doubt), mark: UNKNOWN_BITS, connmark: UNKNOWN_BITS };
    return packet.tracked || packet.ctstate === CT_STATE.UNTRACKED ? [doubted] : [doubted, { ...doubted, ctstate: CT_STATE.UNTRACKED }];
  }
}

function copyMark(packet: PacketClass, action: { to: 'mark' | 'connmark'; toMask: number; fromMask: number }): PacketClass {
  const from = packet[action.to === 'mark' ? 'connmark' : 'mark'];
  const to = packet[action.to];
  // A bit is known afterwards when what it is made of is known: the old bit unless it is cleared, the other mark's
  // bit where it is let through.
  const kept = { known: (to.known | action.toMask) >>> 0, value: to.value & ~action.toMask };
  const brought = { known: (from.known | ~action.fromMask) >>> 0, value: from.value & action.fromMask };
  const known = (kept.known & brought.known) >>> 0;
  return { ...packet, [action.to]: { known, value: ((kept.value ^ brought.value) & known) >>> 0 } };
}

const sourceTranslated = (packet: PacketClass): PacketClass => ({ ...packet, ctstatus: takeBits(packet.ctstatus, CT_STATUS.SNAT, CT_STATUS.SNAT) });

/** Once conntrack has given a packet its connection, nothing takes it away (nft_ct.c, xt_CT.c: `if (ct) return`). */
function untracked(packet: PacketClass): PacketClass[] {
  const connected = packet.tracked ? packet.ctstate & CONNECTED : 0;
  const others = packet.ctstate & ~connected;
  return [
    ...(connected === 0 ? [] : [{ ...packet, ctstate: connected }]),
    ...(others === 0 ? [] : [{ ...packet, ctstate: CT_STATE.UNTRACKED }]),
  ];
}
const CONNECTED = CT_STATE.NEW | CT_STATE.ESTABLISHED | CT_STATE.RELATED;

/** In rule visits. */
const COMPARISON = 4;

/** Fewer classes that hold the same packets; and, past MOST_CLASSES, a few with a doubt that hold more. */
function simplify(packets: readonly PacketClass[], effort: Effort): PacketClass[] {
  if (packets.length < 2) return [...packets];
  if (packets.length > MOST_CLASSES) return [...packets.slice(0, MOST_EXACT), ...joined(packets.slice(MOST_EXACT))];
  const kept: PacketClass[] = [];
  for (const packet of packets) {
    // Comparing classes costs more than visiting rules, and where classes abound it is all the work there is.
    effort.spent(COMPARISON * kept.length);
    let current: PacketClass | undefined = packet;
    for (let at = 0; at < kept.length && current; at++) {
      const other: PacketClass = kept[at]!;
      if ((other.doubts === undefined || current.doubts !== undefined) && includesClass(other, current)) {
        current = undefined;
      } else if ((current.doubts === undefined || other.doubts !== undefined) && includesClass(current, other)) {
        kept.splice(at--, 1);
      } else if (other.doubts === current.doubts) {
        const both = mergeExactly(other, current);
        if (both) {
          kept.splice(at, 1);
          current = both;
          at = -1;
        }
      }
    }
    if (current) kept.push(current);
  }
  return kept;
}

/** Classes are only ever cut finer on the way down a chain, so what takes none of them at its head takes none below. */
function rulesToAsk(chain: TracedChain, live: readonly PacketClass[]): readonly TracedRule[] {
  const [first] = live;
  if (!chain.rulesFor || !first) return chain.rules;
  const one = (['dst', 'src'] as const).find((field) => isOne(first[field]) && live.every((packet) => sameInterval(packet[field], first[field])));
  if (!one) return chain.rules;
  const every = EVERY_ADDRESS[first.family];
  return chain.rulesFor({ ...first, src: every, dst: every, [one]: first[one] });
}

const sameInterval = (a: IntervalSet, b: IntervalSet): boolean => a === b || (a.length === 2 && b.length === 2 && a[0] === b[0] && a[1] === b[1]);

const missesAll = (rule: TracedRule, packets: readonly PacketClass[]): boolean => {
  for (const packet of packets) if (!rule.misses!(packet)) return false;
  return true;
};

const surelyNone = (program: Program, packets: readonly PacketClass[]): boolean => {
  for (const packet of packets) if (!surelyNot(packet, program.test)) return false;
  return true;
};

function joined(packets: readonly PacketClass[]): PacketClass[] {
  // Classes in different conntrack states or directions never meet again, so they are not thrown together.
  const groups = new Map<string, PacketClass>();
  for (const packet of packets) {
    const key = `${packet.ctstate} ${packet.ctdir} ${packet.doubts ? 1 : 0}`;
    const known = groups.get(key);
    groups.set(key, known ? hull(known, packet) : packet);
  }
  return [...groups.values()].map((packet) => (packet.doubts?.doubt === TOO_FINE ? packet : doubting(packet, TOO_FINE)));
}
