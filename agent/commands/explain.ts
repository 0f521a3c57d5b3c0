import { UsageError } from '../config.ts';
import { explain as explained } from '../core/explain.ts';
import { explanationSvg } from '../core/svg-explain.ts';
import { explanationText } from '../core/text-explain.ts';
import { worst } from '../core/reasons.ts';
import { type Command, EXIT, json } from './context.ts';
import { observed } from './observe.ts';

/** Shows a packet's path for each target. Exits like check. */
export const explain: Command = async (context) => {
  const wanted = context.values['target'] as readonly string[] | undefined;
  const all = explained(await observed(context), context.settings);
  const shown = wanted ? all.filter(({ name }) => wanted.some((part) => name.includes(part))) : all;
  if (shown.length === 0) throw new UsageError(`--target ${wanted?.join(', ')}: there is none; there are ${all.map(({ name }) => name).join(', ') || 'no targets'}`);
  if (context.values['format'] === 'svg') context.print(explanationSvg(shown));
  else context.print(context.output === 'json' ? json({ explanations: shown }) : explanationText(shown));
  return EXIT[worst(shown.map(({ answer }) => answer))];
};
