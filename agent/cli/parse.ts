import Parser from 'yargs-parser';
import { COMMANDS, type CommandName, OPTIONS, choicesOf } from './options.ts';

export type Values = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
export interface Parsed {
  readonly command: CommandName;
  readonly values: Values;
}

/**
 * Reads a command line that is plainly right, with the parser that yargs itself uses; undefined for any other (help, a
 * typo, a missing value), which is left to yargs and its messages. Loading all of yargs takes twice as long as Node
 * takes to start, and a health check needs none of it.
 */
export function parsePlainly(argv: readonly string[]): Parsed | undefined {
  const [command, ...rest] = argv;
  if (command === undefined || !isCommand(command)) return undefined;
  const options = Object.entries(OPTIONS).filter(([, spec]) => spec.on.includes(command));
  const named = (type: string): string[] => options.filter(([, spec]) => spec.type === type).map(([name]) => name);
  const parsed = Parser.detailed([...rest], {
    string: [...named('string'), ...named('strings')],
    boolean: named('boolean'),
    number: named('number'),
    array: named('strings'),
    // Otherwise `--config -` is an option without a value, and a word.
    narg: Object.fromEntries(named('string').map((name) => [name, 1])),
    configuration: { 'camel-case-expansion': false, 'unknown-options-as-args': true, 'greedy-arrays': false, 'dot-notation': false, 'duplicate-arguments-array': true },
  });
  if (parsed.error || parsed.argv._.length > 0 || parsed.argv['--']) return undefined;
  // It takes `--probe-interval` for known where there is `--probe`.
  if (Object.keys(parsed.argv).some((name) => name !== '_' && !options.some(([known]) => known === name))) return undefined;
  const values: Record<string, string | number | boolean | readonly string[]> = {};
  for (const [name, spec] of options) {
    const value: unknown = parsed.argv[name];
    if (value === undefined) continue;
    const given = checked(value, spec.type);
    if (given === undefined || choicesOf(spec, command)?.includes(String(given)) === false) return undefined;
    values[name] = given;
  }
  return { command, values };
}

export const isCommand = (word: string): word is CommandName => Object.hasOwn(COMMANDS, word);

function checked(value: unknown, type: string): string | number | boolean | readonly string[] | undefined {
  switch (type) {
    case 'string':
      return typeof value === 'string' && (value === '-' || /^[^-]/.test(value)) ? value : undefined;
    case 'number':
      return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
    case 'boolean':
      return typeof value === 'boolean' ? value : undefined;
    default: {
      const list = Array.isArray(value) ? value : [value];
      return list.length > 0 && list.every((one) => typeof one === 'string' && one !== '') ? (list as string[]) : undefined;
    }
  }
}
