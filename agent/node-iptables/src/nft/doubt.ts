import type { Test } from '../packet/test.ts';

/** A question that depends on what no ruleset shows. */
export const depends = (on: string): Test => ({ is: 'maybe', kind: 'state', why: `depends on ${on}` });

/** A question whose words nobody here can read. */
export const unreadTest = (words: string): Test => ({ is: 'maybe', kind: 'unread', why: `cannot read \`${words}\`` });

/** Whether a question is certain, whatever the packet. */
export const isDoubtful = (test: Test): boolean => {
  switch (test.is) {
    case 'maybe':
      return true;
    case 'not':
      return isDoubtful(test.test);
    case 'all':
    case 'any':
      return test.tests.some(isDoubtful);
    default:
      return false;
  }
};
