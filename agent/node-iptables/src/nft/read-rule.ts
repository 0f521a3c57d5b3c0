import { type Test, all } from '../packet/test.ts';
import type { Action, Program } from '../trace/program.ts';
import { isDoubtful, unreadTest } from './doubt.ts';
import type { NftRule } from './model.ts';
import { readStatement } from './read-statement.ts';
import type { Case, Step } from './step.ts';
import type { Surroundings } from './surroundings.ts';

/**
 * What a rule does to packets of one family, in order. Several programs where it is a map of verdicts; none where it
 * does nothing that a later rule could see. Never throws, and never leaves a statement out: what cannot be read is a
 * test or an action that may be anything.
 */
export function readNftRule(rule: NftRule, around: Surroundings): readonly Program[] {
  const steps: Step[] = [];
  for (const expression of rule.expressions) {
    steps.push(...readStatement(expression, around));
    if (steps.at(-1)?.step === 'end') break;
  }
  const choice = steps.findIndex((step) => step.step === 'choose');
  if (choice < 0) return inARow(steps);
  return choose(steps.slice(0, choice), (steps[choice] as Extract<Step, { step: 'choose' }>).cases, steps.slice(choice + 1));
}

/** Tests up to the next action belong to it; tests after the last action decide nothing. */
function inARow(steps: readonly Step[]): readonly Program[] {
  const program = programOf(steps);
  if (program) return [program];
  const tests = testsOf(steps);
  return tests.some(isDoubtful) ? [] : [{ test: all(tests), act: { do: 'nothing' } }];
}

function programOf(steps: readonly Step[]): Program | undefined {
  const at = steps.findIndex((step) => step.step === 'do' || step.step === 'end');
  const step = steps[at];
  if (step?.step !== 'do' && step?.step !== 'end') return undefined;
  const then = step.step === 'end' ? undefined : programOf(steps.slice(at + 1));
  const test = all(testsOf(steps.slice(0, at)));
  return then ? { test, act: step.act, then } : { test, act: step.act };
}

const testsOf = (steps: readonly Step[]): Test[] => steps.flatMap((step) => (step.step === 'ask' && step.test.is !== 'always' ? [step.test] : []));

/**
 * A program continues in one way only, so each case asks again what the rule asked before it. What was done before is
 * done once, by a program of its own; a question that this may have changed cannot be asked again.
 */
function choose(before: readonly Step[], cases: readonly Case[], after: readonly Step[]): Program[] {
  const done = programOf(before);
  const acts = before.flatMap((step) => (step.step === 'do' ? [step.act] : []));
  const again = testsOf(before).map((test) => (acts.some((act) => mayChange(act, test)) ? unreadTest('a question about a mark that the rule has changed since') : test));
  const then = programOf(after);
  const taken = cases.map(({ test, act }): Program => {
    const asked = all([...again, test]);
    return act.do === 'nothing' && then ? { test: asked, act, then } : { test: asked, act };
  });
  return done ? [done, ...taken] : taken;
}

/** Marks and the conntrack state are all that an action changes of a packet. */
function mayChange(act: Action, test: Test): boolean {
  switch (act.do) {
    case 'xmark':
    case 'blur':
      return asksFor(test, act.on);
    case 'copy-mark':
      return asksFor(test, act.to);
    case 'notrack':
      return asksFor(test, 'ctstate');
    default:
      return act.do !== 'nothing';
  }
}

function asksFor(test: Test, field: 'mark' | 'connmark' | 'ctstate'): boolean {
  switch (test.is) {
    case 'not':
      return asksFor(test.test, field);
    case 'all':
    case 'any':
      return test.tests.some((part) => asksFor(part, field));
    default:
      return test.is === field;
  }
}
