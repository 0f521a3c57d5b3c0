import { type Test, any, all, not } from '../packet/test.ts';
import { unreadTest } from './doubt.ts';
import { type Element, elementsOf } from './elements.ts';
import type { Field } from './field.ts';
import { member } from './json.ts';
import { fieldOf } from './read-field.ts';
import { readVerdict } from './read-verdict.ts';
import { type Case, type Step, ask, perform } from './step.ts';
import type { Surroundings } from './surroundings.ts';
import { statementWords, valueWords } from './words.ts';

/** `{"vmap": {"key": …, "data": "@map"}}`: one case for each element. */
export function readVerdictMap(statement: unknown, around: Surroundings): Step[] {
  const body = member(statement, 'vmap');
  const data = member(body, 'data');
  const field = fieldOf(member(body, 'key'), around);
  const { listed, doubt } = elementsOf(data, around.table);
  if (doubt?.is === 'maybe' && doubt.kind === 'unread') return [...ask(doubt), ...perform({ do: 'unread', why: `${doubt.why}: ${statementWords(statement)}` })];
  const cases = listed.map((element) => readCase(field, element, listed, doubt));
  return [...ask(...field.needs), { step: 'choose', cases: inOrder(cases, field) }];
}

function readCase(field: Field, element: Element, listed: readonly Element[], doubt: Test | undefined): Case {
  const test = element.key === '*' ? noneOf(field, listed) : asked(field, element.key);
  const why = `cannot read the verdict of ${valueWords(element.key)}`;
  const doubts = [doubt, element.doubt].filter((known) => known !== undefined);
  return { test: all([test, ...doubts]), act: readVerdict(element.data) ?? { do: 'unread', why } };
}

const asked = (field: Field, key: unknown): Test => field.undecided ?? field.equals(key) ?? unreadTest(valueWords(key));

const noneOf = (field: Field, listed: readonly Element[]): Test =>
  not(any(listed.filter((element) => element.key !== '*').map((element) => asked(field, element.key))));

/**
 * The kernel takes one case and the walker asks them all, one after the other. So what ends the way of a packet comes
 * first; and where a chain may have changed what the map looks at, a later case cannot be told from the first.
 */
function inOrder(cases: readonly Case[], field: Field): Case[] {
  const comesBack = ({ act }: Case): boolean => act.do === 'jump' || act.do === 'nothing' || act.do === 'unread';
  const changed = unreadTest('a map of verdicts whose key the first chain may have changed');
  return [
    ...cases.filter((one) => !comesBack(one)),
    ...cases.filter(comesBack).map((one, at) => (at > 0 && field.changeable ? { ...one, test: all([one.test, changed]) } : one)),
  ];
}
