import type { Action } from '../trace/program.ts';
import { member, nameOf, textOf } from './json.ts';

/** `{"accept": null}`, `{"jump": {"target": "c"}}`; undefined for what is no verdict. */
export function readVerdict(value: unknown): Action | undefined {
  const name = nameOf(value);
  switch (name) {
    case 'accept':
      return { do: 'accept' };
    case 'drop':
      return { do: 'drop', how: 'drop' };
    case 'return':
      return { do: 'return' };
    case 'continue':
      return { do: 'nothing' };
    case 'jump':
    case 'goto': {
      const chain = textOf(member(member(value, name), 'target'));
      return chain === undefined ? undefined : { do: name, chain };
    }
    default:
      return undefined;
  }
}
