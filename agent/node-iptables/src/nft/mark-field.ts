import { type Test, any } from '../packet/test.ts';
import { tracked } from './connection.ts';
import { depends } from './doubt.ts';
import type { Comparison, Field } from './field.ts';
import { readMarkTerm } from './mark-arithmetic.ts';
import type { Surroundings } from './surroundings.ts';
import { blocksOf, rangeOf, readNumber } from './values.ts';

/** `meta mark`, `ct mark`, and either with `& mask`, `| bits`, `^ bits`; undefined when it is none of these. */
export function markField(left: unknown, around: Surroundings): Field | undefined {
  const term = readMarkTerm(left);
  const is = term?.from;
  if (!term || is === undefined) return undefined;
  // A packet without a connection ends the rule (net/netfilter/nft_ct.c, nft_ct_get_eval: goto err).
  const needs = is === 'connmark' ? [tracked] : [];
  const whole = term.keep === 0xffffffff && term.flip === 0;
  const equals = (value: unknown): Test | undefined => {
    const number = readNumber(value);
    if (number !== undefined) return { is, value: (number ^ term.flip) >>> 0, mask: term.keep };
    const [first, last] = rangeOf(value);
    return whole ? between(is, readNumber(first), readNumber(last)) : undefined;
  };
  const compares = (op: Comparison, value: unknown): Test | undefined => {
    const number = readNumber(value);
    if (!whole || number === undefined) return undefined;
    return op.startsWith('<')
      ? between(is, 0, op === '<' ? number - 1 : number)
      : between(is, op === '>' ? number + 1 : number, 0xffffffff);
  };
  if (is === 'connmark' && around.conntrack === 'unordered') return { needs: [], equals, undecided: depends('whether conntrack comes before this chain') };
  return { needs, equals, compares, changeable: true };
}

function between(is: 'mark' | 'connmark', from: number | undefined, to: number | undefined): Test | undefined {
  if (from === undefined || to === undefined) return undefined;
  return any(blocksOf(from, to).map((block) => ({ is, ...block })));
}
