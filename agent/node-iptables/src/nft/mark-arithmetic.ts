import { listOf, member, nameOf } from './json.ts';
import { readNumber } from './values.ts';

/** What rules compute with marks: `(from & keep) ^ flip`, or the constant `flip` where `from` is undefined. */
export interface MarkTerm {
  readonly from: 'mark' | 'connmark' | undefined;
  readonly keep: number;
  readonly flip: number;
}

/**
 * `{"|": [{"&": [{"meta": {"key": "mark"}}, 511]}, 256]}` and the like, however deep; undefined for what is not bit by
 * bit (shifts, hashes, maps) or joins both marks.
 */
export function readMarkTerm(value: unknown): MarkTerm | undefined {
  const constant = readNumber(value);
  if (constant !== undefined) return { from: undefined, keep: 0, flip: constant };
  const name = nameOf(value);
  if (name === 'meta' || name === 'ct') return readMarkName(name, value);
  if (name !== '&' && name !== '|' && name !== '^') return undefined;
  const terms = listOf(member(value, name)).map(readMarkTerm);
  if (terms.length === 0) return undefined;
  return terms.reduce((left, right) => left && right && join(name, left, right));
}

function readMarkName(name: 'meta' | 'ct', value: unknown): MarkTerm | undefined {
  const body = member(value, name);
  if (member(body, 'key') !== 'mark') return undefined;
  return { from: name === 'meta' ? 'mark' : 'connmark', keep: 0xffffffff, flip: 0 };
}

function join(op: '&' | '|' | '^', left: MarkTerm, right: MarkTerm): MarkTerm | undefined {
  if (left.from !== undefined && right.from !== undefined) return undefined;
  const [term, by] = left.from === undefined ? [right, left.flip] : [left, right.flip];
  const from = term.from;
  switch (op) {
    case '&':
      return { from, keep: (term.keep & by) >>> 0, flip: (term.flip & by) >>> 0 };
    case '|':
      // x | by = (x & ~by) ^ by
      return { from, keep: (term.keep & ~by) >>> 0, flip: ((term.flip & ~by) ^ by) >>> 0 };
    case '^':
      return { from, keep: term.keep, flip: (term.flip ^ by) >>> 0 };
  }
}
