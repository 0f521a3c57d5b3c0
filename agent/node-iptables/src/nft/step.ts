import type { Test } from '../packet/test.ts';
import type { Action } from '../trace/program.ts';

/** What one statement of a rule comes to; a rule is a list of them, in order. */
export type Step =
  | { readonly step: 'ask'; readonly test: Test }
  | { readonly step: 'do'; readonly act: Action }
  /** The last thing that a packet meets in this rule. */
  | { readonly step: 'end'; readonly act: Action }
  /** A map of verdicts: at most one case is taken, and none means that the rule ends. */
  | { readonly step: 'choose'; readonly cases: readonly Case[] };

export interface Case {
  readonly test: Test;
  readonly act: Action;
}

export const ask = (...tests: readonly Test[]): Step[] => tests.map((test) => ({ step: 'ask', test }));
export const perform = (act: Action): Step[] => [{ step: 'do', act }];
export const end = (act: Action): Step[] => [{ step: 'end', act }];
