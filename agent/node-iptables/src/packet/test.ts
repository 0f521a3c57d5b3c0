import { intersect, isEmpty, subtract, type IntervalSet } from '../sets/interval-set.ts';
import { leaveBits, matchBits, takeBits } from '../sets/bits.ts';
import { intersectNames, subtractNames, type NamePattern } from '../sets/name-set.ts';
import { CT_STATE, type Doubt, type PacketClass, doubting, hasConnection, seenState } from './packet-class.ts';

/** What a match of a rule asks of a packet. */
export type Test =
  | { readonly is: 'always' }
  | { readonly is: 'never' }
  | { readonly is: 'iif' | 'oif'; readonly pattern: NamePattern }
  | { readonly is: 'src' | 'dst' | 'proto' | 'sport' | 'dport'; readonly among: IntervalSet }
  | { readonly is: 'ctstate' | 'ctdir'; readonly among: number }
  | { readonly is: 'mark' | 'connmark' | 'ctstatus' | 'flags'; readonly value: number; readonly mask: number }
  | { readonly is: 'to-node' }
  /** Cannot be decided from a ruleset: both outcomes are followed, and both carry the doubt. */
  | { readonly is: 'maybe'; readonly kind: 'unread' | 'state'; readonly why: string }
  | { readonly is: 'not'; readonly test: Test }
  | { readonly is: 'all'; readonly tests: readonly Test[] }
  | { readonly is: 'any'; readonly tests: readonly Test[] };

/**
 * Questions about the connection of a packet that has none are answered no, negated or not (xt_connmark.c,
 * xt_conntrack.c, nft_ct.c). Wrap them in this, after the negation.
 */
export const ofConnection = (test: Test): Test => ({ is: 'all', tests: [HAS_CONNECTION, test] });
const HAS_CONNECTION: Test = { is: 'ctstate', among: CT_STATE.NEW | CT_STATE.ESTABLISHED | CT_STATE.RELATED };

export const ALWAYS: Test = { is: 'always' };
export const NEVER: Test = { is: 'never' };
export const not = (test: Test): Test => (test.is === 'not' ? test.test : { is: 'not', test });
export const all = (tests: readonly Test[]): Test =>
  tests.length === 1 ? tests[0]! : tests.length === 0 ? ALWAYS : { is: 'all', tests };
export const any = (tests: readonly Test[]): Test =>
  tests.length === 1 ? tests[0]! : tests.length === 0 ? NEVER : { is: 'any', tests };

/** Past this many intervals a class is not cut finer: the whole goes on, with the doubt TOO_FINE. */
const MOST_INTERVALS = 256;
export const TOO_FINE: Doubt = { kind: 'size', why: 'too many different rules to follow each packet apart', at: undefined };

/** A quick "no packet of the class": true only when that is certain. Allocates nothing; most rules end here. */
export function surelyNot(packet: PacketClass, test: Test): boolean {
  switch (test.is) {
    case 'never':
      return true;
    case 'dst':
    case 'src':
    case 'proto':
    case 'sport':
    case 'dport': {
      const mine = packet[test.is];
      const { among } = test;
      return mine.length === 2 && among.length === 2 ? among[1]! <= mine[0]! || mine[1]! <= among[0]! : isEmpty(intersect(mine, among));
    }
    case 'iif':
    case 'oif':
      return intersectNames(packet[test.is], test.pattern) === undefined;
    case 'ctstate':
      return (seenState(packet) & test.among) === 0;
    case 'ctdir':
      return !hasConnection(packet) || (packet.ctdir & test.among) === 0;
    case 'connmark':
    case 'ctstatus':
      return !hasConnection(packet) || matchBits(packet[test.is], test.value, test.mask) === 'none';
    case 'mark':
    case 'flags':
      return matchBits(packet[test.is], test.value, test.mask) === 'none';
    case 'to-node':
      return !packet.toNode;
    case 'all':
      for (const part of test.tests) if (surelyNot(packet, part)) return true;
      return false;
    default:
      return false;
  }
}

/**
 * Cuts a class in two: what the test takes goes to `yes`, what it leaves to `no`. Exact, but for 'maybe' (the whole
 * class goes both ways, with the doubt) and for classes that would become too finely cut.
 */
export function split(packet: PacketClass, test: Test, at: unknown, yes: PacketClass[], no: PacketClass[]): void {
  switch (test.is) {
    case 'always':
      yes.push(packet);
      return;
    case 'never':
      no.push(packet);
      return;
    case 'to-node':
      (packet.toNode ? yes : no).push(packet);
      return;
    case 'iif':
    case 'oif': {
      const mine = packet[test.is];
      const taken = intersectNames(mine, test.pattern);
      if (taken === mine) yes.push(packet);
      else if (taken) yes.push({ ...packet, [test.is]: taken });
      const left = taken ? subtractNames(mine, test.pattern) : mine;
      if (left === mine) no.push(packet);
      else if (left) no.push({ ...packet, [test.is]: left });
      return;
    }
    case 'src':
    case 'dst':
    case 'proto':
    case 'sport':
    case 'dport': {
      const mine = packet[test.is];
      const taken = intersect(mine, test.among);
      if (taken === mine) {
        yes.push(packet);
        return;
      }
      if (isEmpty(taken)) {
        no.push(packet);
        return;
      }
      yes.push({ ...packet, [test.is]: taken });
      if (packet.doubts?.doubt === TOO_FINE && mine.length >= 2 * MOST_INTERVALS) {
        no.push(packet);
        return;
      }
      const left = subtract(mine, test.among);
      if (isEmpty(left)) return;
      if (left.length <= 2 * MOST_INTERVALS) no.push({ ...packet, [test.is]: left });
      else no.push(packet.doubts?.doubt === TOO_FINE ? packet : doubting(packet, TOO_FINE));
      return;
    }
    case 'ctstate':
    case 'ctdir': {
      if (test.is === 'ctdir' && lacksConnection(packet, test, at, yes, no)) return;
      const mine = test.is === 'ctstate' ? seenState(packet) : packet.ctdir;
      const taken = mine & test.among;
      if (taken === mine) yes.push(packet);
      else if (taken === 0) no.push(packet);
      else {
        yes.push({ ...packet, [test.is]: taken });
        no.push({ ...packet, [test.is]: mine & ~test.among });
      }
      return;
    }
    case 'mark':
    case 'connmark':
    case 'ctstatus':
    case 'flags': {
      const mine = packet[test.is];
      if ((test.is === 'connmark' || test.is === 'ctstatus') && lacksConnection(packet, test, at, yes, no)) return;
      const matched = matchBits(mine, test.value, test.mask);
      if (matched === 'all') yes.push(packet);
      else if (matched === 'none') no.push(packet);
      else {
        yes.push({ ...packet, [test.is]: takeBits(mine, test.value, test.mask) });
        for (const part of leaveBits(mine, test.value, test.mask)) no.push({ ...packet, [test.is]: part });
      }
      return;
    }
    case 'maybe': {
      const doubted = doubting(packet, { kind: test.kind, why: test.why, at });
      yes.push(doubted);
      no.push(doubted);
      return;
    }
    case 'not':
      split(packet, test.test, at, no, yes);
      return;
    case 'all':
      splitInTurn(packet, test.tests, at, no, yes, false);
      return;
    case 'any':
      splitInTurn(packet, test.tests, at, yes, no, true);
      return;
  }
}

/** Questions about a connection are answered no for the packets of a class that have none; true when that settled it. */
function lacksConnection(packet: PacketClass, test: Test, at: unknown, yes: PacketClass[], no: PacketClass[]): boolean {
  const connected = packet.tracked ? packet.ctstate & CONNECTED : 0;
  if (connected === packet.ctstate) return false;
  no.push(connected === 0 ? packet : { ...packet, ctstate: packet.ctstate & ~CONNECTED });
  if (connected !== 0) split({ ...packet, ctstate: connected }, test, at, yes, no);
  return true;
}
const CONNECTED = CT_STATE.NEW | CT_STATE.ESTABLISHED | CT_STATE.RELATED;

/** `settled` gets what one of the tests decides alone (a no for 'all', a yes for 'any'), `rest` what none did. */
function splitInTurn(
  packet: PacketClass,
  tests: readonly Test[],
  at: unknown,
  settled: PacketClass[],
  rest: PacketClass[],
  settledByYes: boolean,
): void {
  let current = [packet];
  for (const test of tests) {
    const next: PacketClass[] = [];
    for (const part of current) {
      if (settledByYes) split(part, test, at, settled, next);
      else split(part, test, at, next, settled);
    }
    current = next;
    if (current.length === 0) return;
  }
  rest.push(...current);
}
