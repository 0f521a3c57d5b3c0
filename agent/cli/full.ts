import type { Argv } from 'yargs';
import { UsageError } from '../config.ts';
import { COMMANDS, type CommandName, EXAMPLES, OPTIONS, type OptionSpec, choicesOf } from './options.ts';
import type { Parsed, Values } from './parse.ts';

/**
 * The whole of yargs: help, completion, and a message for each mistake.
 *
 * @returns what to run, or undefined when everything was said (help, version, completion)
 * @throws UsageError with one line
 */
export async function parseFully(argv: readonly string[], version: string, print: (text: string) => void): Promise<Parsed | undefined> {
  let chosen: Parsed | undefined;
  const { default: yargs } = await import('yargs');
  let parser = yargs()
    .scriptName('imds-guard')
    .usage('$0 <command>\n\nKeeps the pods of this node from the EC2 instance metadata service, and proves it.')
    .parserConfiguration({ 'camel-case-expansion': false, 'greedy-arrays': false, 'dot-notation': false, 'duplicate-arguments-array': true })
    .strict()
    .demandCommand(1, 1, 'a command is needed: apply, check, clients, explain, rules, probe, fleet, remove, watch or version', 'one command at a time')
    .recommendCommands()
    .version(version)
    .help()
    .alias('help', 'h')
    .completion('completion', 'Print a completion script for bash or zsh')
    .epilogue('Exit status: 0 blocked or done, 1 open, 2 unknown, 64 a mistake in the command line or settings, 70 a bug.')
    .wrap(100)
    .exitProcess(false)
    .fail((message, error) => {
      throw error instanceof UsageError ? error : new UsageError(oneLine(message ?? String(error), argv[0]));
    });
  for (const [name, describe] of Object.entries(COMMANDS)) {
    parser = parser.command(
      name,
      describe,
      (command) => withOptions(command, name as CommandName),
      (values) => {
        chosen = { command: name as CommandName, values: onlyKnown(values, name as CommandName) };
      },
    );
  }
  await parser.parseAsync([...argv], {}, (_error, _values, output) => {
    if (output) print(output.endsWith('\n') ? output : `${output}\n`);
  });
  return chosen;
}

/** yargs says "Did you mean check?" alone, and the choices of an option on lines of their own. */
const oneLine = (message: string, first: string | undefined): string => `${/^Did you mean/.test(message) ? `unknown command ${first}; ` : ''}${message.replace(/\s*\n\s*/g, ' ')}`.replace(/Did you mean/, 'did you mean');

function withOptions(command: Argv, name: CommandName): Argv {
  let built = command;
  for (const [option, spec] of Object.entries(OPTIONS)) if (spec.on.includes(name)) built = built.option(option, yargsOption(spec, name));
  for (const [line, meaning] of EXAMPLES[name]) built = built.example(line, meaning);
  return built.check((values) => {
    // What follows a `--` gets past strict().
    const [, ...extra] = (values['_'] as readonly unknown[]).map(String);
    if (extra.length > 0) throw new UsageError(`nothing can follow the command but options: ${extra.join(' ')}`);
    for (const [option, spec] of Object.entries(OPTIONS)) {
      const value = values[option];
      if (value === undefined || !spec.on.includes(name)) continue;
      if (spec.type === 'number' && Number.isNaN(value)) throw new UsageError(`--${option} takes a number`);
      if (spec.type !== 'strings' && Array.isArray(value)) throw new UsageError(`--${option} is given twice`);
      if ((Array.isArray(value) ? value : [value]).some((one) => one === '')) throw new UsageError(`--${option} takes a value`);
    }
    return true;
  });
}

const yargsOption = (spec: OptionSpec, name: CommandName) => ({
  describe: spec.describe,
  requiresArg: spec.type !== 'boolean',
  ...(spec.type === 'strings' ? { type: 'string' as const, array: true } : { type: spec.type }),
  ...(choicesOf(spec, name) ? { choices: choicesOf(spec, name) } : {}),
});

function onlyKnown(values: Readonly<Record<string, unknown>>, name: CommandName): Values {
  const known = Object.entries(OPTIONS).filter(([option, spec]) => spec.on.includes(name) && values[option] !== undefined);
  return Object.fromEntries(known.map(([option]) => [option, values[option] as Values[string]]));
}

