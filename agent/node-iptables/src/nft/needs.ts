import type { Test } from '../packet/test.ts';
import { isObject } from './json.ts';
import { fieldOf } from './read-field.ts';
import type { Surroundings } from './surroundings.ts';

/**
 * What a packet must be for a value to be computed from it: `update @clients { ip saddr }` does nothing for IPv6, and
 * ends the rule. However deep the fields stand.
 */
export function needsOf(value: unknown, around: Surroundings, depth = 0): readonly Test[] {
  if (depth > 16 || typeof value !== 'object' || value === null) return [];
  if (isObject(value) && ('payload' in value || 'ct' in value)) return fieldOf(value, around).needs;
  return Object.values(value).flatMap((part) => needsOf(part, around, depth + 1));
}
