import type { Test } from '../packet/test.ts';
import { unreadTest } from './doubt.ts';
import { isObject, member } from './json.ts';
import { fieldOf } from './read-field.ts';
import { membership } from './read-match.ts';
import type { Surroundings } from './surroundings.ts';
import { valueWords } from './words.ts';

/** A value that is looked up (`ip saddr map { 1.2.3.4 : 0x10 }`) must be found, or the rule ends there. */
export function mapNeeds(value: unknown, around: Surroundings, depth = 0): readonly Test[] {
  if (depth > 16 || typeof value !== 'object' || value === null) return [];
  const map = isObject(value) ? member(value, 'map') : undefined;
  if (map === undefined) return Object.values(value).flatMap((part) => mapNeeds(part, around, depth + 1));
  const field = fieldOf(member(map, 'key'), around);
  return [field.undecided ?? membership(field, member(map, 'data'), around) ?? unreadTest(valueWords(value))];
}
