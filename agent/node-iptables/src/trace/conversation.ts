import { CT_STATE, type Doubt, type PacketClass, doubtsOf, intersectClass } from '../packet/packet-class.ts';
import { type Likely, type Packet, describePacket, pickOne } from '../packet/pick.ts';
import { UNKNOWN_BITS, coversBits } from '../sets/bits.ts';
import { type Path, type Way, listedPath, pathThrough, pathsOf, walkPath } from './path.ts';
import type { BaseChain, TracedChain, TracedRule } from './program.ts';
import { type Trace, traceOne } from './trace-one.ts';
import { UNFOLLOWED, keeping, turnsAfter } from './turns.ts';
import { Effort } from './walk.ts';

/**
 * Whether anybody in a class of packets can hold a TCP conversation through this machine: the request must pass, the
 * answer must come back, and the data after the handshake must pass too.
 */
export type Judgement = Blocked | Open | Undecided;

interface Blocked {
  readonly answer: 'blocked';
  /** The rules and policies that end the packets: together they take every packet of the class. */
  readonly proof: readonly TracedRule[];
  /**
   * Every chain that some packet of the class enters, in whichever order the kernel calls those of equal priority. All packets
   * were followed to their end, so that a change in another chain touches none of them. Undefined where the orders are too
   * many to be tried.
   */
  readonly entered: readonly TracedChain[] | undefined;
}
interface Open {
  readonly answer: 'open';
  readonly packet: Packet;
  readonly trace: Trace;
}
interface Undecided {
  readonly answer: 'unknown';
  readonly because:
    /** Some rule could not be decided. */
    | 'doubt'
    /** Part of the class is sent to somebody else. */
    | 'redirected'
    /** The request passes; what comes after it does not. Whoever waits for conntrack to forget may get round that. */
    | 'later'
    /** Only packets that are not likely to exist get through. */
    | 'unlikely'
    /** It depends on which of two chains of equal priority comes first. */
    | 'order';
  readonly doubts: readonly Doubt[];
  /** Rules that had a part in it: those that redirect, or that end the later packets. */
  readonly rules: readonly TracedRule[];
}

export interface Question {
  /** The packets to ask about; `ctstate` says whether they begin a conversation (NEW) or belong to one. */
  readonly request: PacketClass;
  /** The packets that really occur. A verdict "open" needs a witness among them; "blocked" is about all of `request`. */
  readonly likely: PacketClass;
  readonly picks: Likely;
  readonly way?: Way;
  /** Ask about the request alone: for packets that need no answer, or whose answer takes a way not asked about. */
  readonly requestOnly?: true;
}

/** The verdict over every order in which the kernel may call the chains. */
export function judge(bases: readonly BaseChain[], question: Question): Judgement {
  const way = question.way ?? 'forwarded';
  const effort = new Effort();
  const listed = new Conversation(listedPath(bases, way), question, effort);
  const first = listed.judge();
  const blocked = first.answer === 'blocked' ? blockedOn(pathThrough(bases, way, listed.last), first, question, effort) : undefined;
  if (blocked) return blocked;
  const { paths, complete, turned } = pathsOf(bases, way);
  if (!complete) return judgeInAnyOrder(paths[0] ?? [], question);
  if (first.answer === 'unknown') return first;
  const judgements: Judgement[] = [first];
  for (const path of paths.slice(1)) {
    const judgement = new Conversation(path, question, effort).judge();
    if (judgement.answer === 'unknown') return judgement;
    judgements.push(judgement);
  }
  if (judgements.every(({ answer }) => answer === first.answer)) return first.answer === 'blocked' ? together(judgements, turned, question, effort) : first;
  return { answer: 'unknown', because: 'order', doubts: [], rules: [...new Set(judgements.flatMap(proofOf))] };
}

/**
 * Where every packet has died, what comes later cannot matter: neither its rules nor its orders. Undefined when another order
 * of the chains until there says something else.
 */
function blockedOn(met: Path, first: Blocked, question: Question, effort: Effort): Blocked | undefined {
  const { paths, turned, complete } = pathsOf(met, question.way ?? 'forwarded');
  if (!complete) return undefined;
  const judgements: Judgement[] = [first];
  for (const path of paths.slice(1)) {
    const judgement = new Conversation(path, question, effort).judge();
    if (judgement.answer !== 'blocked') return undefined;
    judgements.push(judgement);
  }
  return together(judgements, turned, question, effort);
}

function together(judgements: readonly Judgement[], turned: readonly Path[], question: Question, effort: Effort): Blocked {
  const others = turned.map((path) => new Conversation(path, question, effort).judge());
  const followed = others.every(({ answer }) => answer === 'blocked');
  return {
    answer: 'blocked',
    proof: [...new Set(judgements.flatMap(proofOf))],
    entered: followed ? [...new Set([...judgements, ...others].flatMap(enteredOf))] : undefined,
  };
}

const enteredOf = (judgement: Judgement): readonly TracedChain[] => (judgement.answer === 'blocked' ? (judgement.entered ?? []) : []);
const proofOf = (judgement: Judgement): readonly TracedRule[] => (judgement.answer === 'blocked' ? judgement.proof : []);

/**
 * More orders than can be tried. What other chains make of a packet is then anybody's guess; but a chain that drops it
 * whatever they made of it (any mark, any state) is a proof in every order.
 */
function judgeInAnyOrder(path: Path, question: Question): Judgement {
  const states = Object.values(CT_STATE).reduce((bits, bit) => bits | bit, 0);
  const anything = { ...question.request, mark: UNKNOWN_BITS, connmark: UNKNOWN_BITS, ctstatus: UNKNOWN_BITS, ctstate: states };
  const redirectors: TracedRule[] = [];
  walkPath(path, [anything], { dropped: () => {}, redirected: (_, by) => redirectors.push(by) }, new Effort());
  for (const base of redirectors.length > 0 ? [] : path.filter(({ type }) => type === 'filter')) {
    const enders = new Set<TracedRule>();
    const passed = walkPath([base], [anything], { dropped: (_, by) => enders.add(by), redirected: () => {} }, new Effort());
    if (passed.length === 0) return { answer: 'blocked', proof: [...enders], entered: undefined };
  }
  const why = 'more chains of equal priority than can be tried in every order';
  return { answer: 'unknown', because: 'order', doubts: [{ kind: 'order', why, at: undefined }], rules: [...new Set(redirectors)] };
}

/** Witnesses tried before "open" is given up for "unknown". */
const MOST_WITNESSES = 24;
const FIRST_WITNESSES = 3;

class Conversation {
  private readonly enders = new Set<TracedRule>();
  private readonly redirectors = new Set<TracedRule>();
  private readonly entered = new Set<TracedChain>();
  private readonly effort: Effort;
  /** The last base chain that a packet came to. */
  last: BaseChain | undefined;
  /** Some packet was dropped after its connection had been marked. */
  private remarked = false;
  private readonly path: Path;
  private readonly question: Question;
  constructor(path: Path, question: Question, effort: Effort) {
    this.effort = effort;
    this.path = path;
    this.question = question;
  }

  judge(): Judgement {
    const { request } = this.question;
    const known = this.fateOfLikely();
    if (known) return known;
    const requests = this.walk([request]);
    if (requests.length === 0) {
      if (this.remarked && !this.blockedUnderAnyMark()) return this.undecided('doubt', [REMARKED], [...this.enders]);
      if (this.redirectors.size > 0) return this.undecided('redirected', [], [...this.redirectors]);
      return { answer: 'blocked', proof: [...this.enders], entered: [...this.entered] };
    }
    const stoppedRequests = this.enders.size;
    // Mostly any request that passes is answered, and one that was followed to its end settles it.
    const early = this.witnessAmong(requests, FIRST_WITNESSES);
    if (early) return early;
    if (this.question.requestOnly) return this.concluded(requests);
    let complete = requests;
    for (const next of turnsAfter(request)) {
      complete = complete.flatMap((packet) => this.walk([next(packet, request)]).map((through) => keeping(through, packet, next)));
    }
    if (complete.length === 0) return this.undecided('later', [...new Set(requests.flatMap(doubtsOf))], [...this.enders].slice(stoppedRequests));
    return this.concluded(complete);
  }

  /**
   * One packet of the likeliest kind, followed before all of them are: most rulesets let it through or settle it at once,
   * and it meets a few rules where the whole class is cut by every one. Says "open", or that there is no "blocked".
   */
  private fateOfLikely(): Judgement | undefined {
    const { request, likely, picks } = this.question;
    const among = intersectClass(request, likely);
    const one = among && pickOne(among, picks);
    if (!one) return undefined;
    const trace = this.traceWhole(one);
    if (trace) return { answer: 'open', packet: describePacket(one), trace };
    // A conversation of untracked packets is never followed to its end, so it is open never, and blocked no more.
    const alone = request.ctstate === CT_STATE.UNTRACKED ? traceOne(this.path, one) : undefined;
    if (alone?.fate.is === 'passed' && !alone.doubtful) return this.undecided('doubt', [UNFOLLOWED], []);
    this.enders.clear();
    this.redirectors.clear();
    this.entered.clear();
    this.last = undefined;
    this.remarked = false;
    return undefined;
  }

  private concluded(through: readonly PacketClass[]): Judgement {
    const open = this.witnessAmong(through);
    if (open) return open;
    const doubts = [...new Set(through.flatMap(doubtsOf))];
    return this.undecided(doubts.length > 0 ? 'doubt' : this.redirectors.size > 0 ? 'redirected' : 'unlikely', doubts, [...this.redirectors]);
  }

  private walk(packets: readonly PacketClass[]): PacketClass[] {
    return walkPath(
      this.path,
      packets,
      { dropped: (packet, by) => this.drop(packet, by), redirected: (_, by) => this.redirectors.add(by), meets: (base) => this.meet(base), enters: (chain) => this.entered.add(chain) },
      this.effort,
    );
  }

  private meet(base: BaseChain): void {
    if (this.last === undefined || this.path.indexOf(base) > this.path.indexOf(this.last)) this.last = base;
  }

  private drop(packet: PacketClass, by: TracedRule): void {
    this.enders.add(by);
    const { ctstate, connmark } = this.question.request;
    if (ctstate !== CT_STATE.NEW && !coversBits(connmark, packet.connmark)) this.remarked = true;
  }

  /** A connection outlives the packet that was dropped, and keeps the mark that it got on the way: the next one has it. */
  private blockedUnderAnyMark(): boolean {
    return this.walk([{ ...this.question.request, connmark: UNKNOWN_BITS }]).length === 0;
  }

  /** A packet that passes without a doubt, in every part of its conversation. */
  private witnessAmong(classes: readonly PacketClass[], most = MOST_WITNESSES): Open | undefined {
    const bySureness = [...classes].sort((a, b) => sureness(a) - sureness(b));
    for (const found of bySureness.slice(0, most)) {
      if (sureness(found) > 1) break;
      const likely = intersectClass(startOf(found, this.question.request), this.question.likely);
      for (const picks of likely ? this.picksFor(likely) : []) {
        const trace = this.traceWhole(picks);
        if (trace) return { answer: 'open', packet: describePacket(picks), trace };
      }
    }
    return undefined;
  }

  /** One member of a class that was followed exactly; several of one that was given up for size. */
  private picksFor(packet: PacketClass): PacketClass[] {
    const first = pickOne(packet, this.question.picks);
    if (!first) return [];
    if (packet.doubts === undefined) return [first];
    const [from, below] = [packet.src[0]!, packet.src[packet.src.length - 1]!];
    const spread = Array.from({ length: 12 }, (_, at) => alongside(from, below, at));
    return [first, ...spread.map((src): PacketClass => ({ ...first, src }))];
  }

  private traceWhole(request: PacketClass): Trace | undefined {
    const asked = this.question.request;
    const trace = traceOne(this.path, request);
    if (trace.fate.is !== 'passed' || trace.doubtful) return undefined;
    if (this.question.requestOnly) return trace;
    const [passed] = this.walk([request]);
    if (!passed) return undefined;
    // Each packet meets the connection as the one before has left it.
    let conversation = passed;
    for (const next of turnsAfter(asked)) {
      const packet = next(conversation, asked);
      const { fate, doubtful } = traceOne(this.path, packet);
      if (fate.is !== 'passed' || doubtful) return undefined;
      const [through] = this.walk([packet]);
      if (!through) return undefined;
      conversation = keeping(through, conversation, next);
      if (conversation.doubts !== undefined) return undefined;
    }
    return trace;
  }

  private undecided(because: Undecided['because'], doubts: readonly Doubt[], rules: readonly TracedRule[]): Undecided {
    return { answer: 'unknown', because, doubts, rules };
  }
}

/** 0: no doubt; 1: given up for size only, so that a member may still be a witness; 2: a real doubt. */
function sureness(packet: PacketClass): number {
  const doubts = doubtsOf(packet);
  return doubts.length === 0 ? 0 : doubts.every((doubt) => doubt.kind === 'size') ? 1 : 2;
}

const REMARKED: Doubt = { kind: 'state', why: 'depends on the mark that a dropped packet leaves on its connection', at: undefined };

/** A class that got through, as it was at the start: marks and states are what the rules made of it since. */
const startOf = (found: PacketClass, request: PacketClass): PacketClass => ({
  ...found,
  mark: request.mark,
  connmark: request.connmark,
  ctstate: request.ctstate,
  ctdir: request.ctdir,
  ctstatus: request.ctstatus,
  flags: request.flags,
});

function alongside(from: number | bigint, below: number | bigint, at: number): PacketClass['src'] {
  const [low, size] = [BigInt(from), BigInt(below) - BigInt(from)];
  const value = low + (size * BigInt(2 * at + 1)) / 24n;
  return typeof from === 'number' ? [Number(value), Number(value) + 1] : [value, value + 1n];
}
