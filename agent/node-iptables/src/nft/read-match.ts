import { ALWAYS, NEVER, type Test, all, any, not } from '../packet/test.ts';
import { pairsOf, union } from '../sets/interval-set.ts';
import { unreadTest } from './doubt.ts';
import { elementsOf } from './elements.ts';
import type { Comparison, Field } from './field.ts';
import { fieldOf } from './read-field.ts';
import { member } from './json.ts';
import type { Surroundings } from './surroundings.ts';
import { statementWords } from './words.ts';

/** `{"match": {"op": "==", "left": …, "right": …}}` as a question. What cannot be read is a question without answer. */
export function readMatch(match: unknown, around: Surroundings): Test {
  const body = member(match, 'match');
  const field = fieldOf(member(body, 'left'), around);
  if (field.needs.some((test) => test.is === 'never')) return NEVER;
  const asked = field.undecided ?? question(field, member(body, 'op'), member(body, 'right'), around) ?? unreadTest(statementWords(match));
  return all([...field.needs, asked].filter((test) => test.is !== 'always'));
}

function question(field: Field, op: unknown, right: unknown, around: Surroundings): Test | undefined {
  switch (op) {
    case '==':
    case undefined:
      return equalTo(field, right, around);
    case '!=':
      return negated(equalTo(field, right, around));
    case 'in':
      return isSet(right) ? membership(field, right, around) : field.shares ? field.shares(right) : equalTo(field, right, around);
    case '!':
      return negated(field.shares?.(right));
    case '<':
    case '>':
    case '<=':
    case '>=':
      return field.compares?.(op satisfies Comparison, right);
    default:
      return undefined;
  }
}

const negated = (test: Test | undefined): Test | undefined => test && not(test);

const isSet = (right: unknown): boolean => member(right, 'set') !== undefined || (typeof right === 'string' && right.startsWith('@'));

const equalTo = (field: Field, right: unknown, around: Surroundings): Test | undefined =>
  isSet(right) ? membership(field, right, around) : field.equals(right);

/** Whether the field is a key of the set or map. */
export function membership(field: Field, set: unknown, around: Surroundings): Test | undefined {
  const { listed, doubt } = elementsOf(set, around.table);
  if (doubt) return doubt;
  const tests: Test[] = [];
  for (const element of listed) {
    const test = keyTest(field, element.key);
    if (!test) return undefined;
    tests.push(element.doubt ? all([test, element.doubt]) : test);
  }
  return anyOf(tests);
}

/** `*` is every key that has no element of its own. */
export const keyTest = (field: Field, key: unknown): Test | undefined => (key === '*' ? ALWAYS : field.equals(key));

/** Thousands of addresses become one question. */
function anyOf(tests: readonly Test[]): Test {
  if (tests.some((test) => test.is === 'always')) return ALWAYS;
  const rest: Test[] = [];
  const intervals = new Map<string, Extract<Test, { is: 'src' | 'dst' | 'proto' | 'sport' | 'dport' }>[]>();
  for (const test of tests) {
    if (test.is === 'src' || test.is === 'dst' || test.is === 'proto' || test.is === 'sport' || test.is === 'dport') {
      const known = intervals.get(test.is);
      if (known) known.push(test);
      else intervals.set(test.is, [test]);
    } else if (test.is !== 'never') rest.push(test);
  }
  for (const same of intervals.values()) rest.push({ is: same[0]!.is, among: union(same.flatMap((test) => pairsOf(test.among))) });
  return any(rest);
}
