import { UsageError } from '../config.ts';
import { type GuideOptions, readGuide } from '../core/guide/asked.ts';
import { guideText } from '../core/guide/text-guide.ts';
import type { Command } from './context.ts';

/** Prints what to do for a kind of node group. Looks at nothing, changes nothing, asks nothing. */
export const guide: Command = async ({ values, print }) => {
  // The table of options has these names and types, and yargs lets no others through.
  const asked = readGuide(values as GuideOptions);
  if ('is' in asked) throw new UsageError(asked.because);
  print(guideText(asked));
  return 0;
};
