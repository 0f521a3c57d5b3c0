import type { Test } from '../packet/test.ts';
import { depends, unreadTest } from './doubt.ts';
import { valueWords } from './words.ts';

/** The left side of a match, or the key of a map: what it looks at, and how to ask for a value. */
export interface Field {
  /** A packet that fails one of these ends the rule, whatever is asked and even when it is asked with `!=`. */
  readonly needs: readonly Test[];
  /** Whether the field is this value, or in this prefix or range; undefined when the value cannot be read. */
  readonly equals: (value: unknown) => Test | undefined;
  /** Whether the field, a set of flags, has one of these. */
  readonly shares?: (value: unknown) => Test | undefined;
  readonly compares?: (op: Comparison, value: unknown) => Test | undefined;
  /** The answer to every question, where no ruleset shows it or nobody can read it. */
  readonly undecided?: Test;
  /** Whether a chain that a rule jumps to may change it. */
  readonly changeable?: boolean;
}
export type Comparison = '<' | '>' | '<=' | '>=';

export const stateField = (left: unknown): Field => undecidedField(depends(`\`${valueWords(left)}\``));
export const unreadField = (left: unknown): Field => undecidedField(unreadTest(valueWords(left)));
const undecidedField = (undecided: Test): Field => ({ needs: [], equals: () => undecided, undecided });
