import { openLog } from '../effects/log.ts';
import { watchNode } from '../watch/run.ts';
import type { Command } from './context.ts';

/** Sees every overwrite at once, repairs it, and says who did it. Ends when it is told to, and leaves the rules. */
export const watch: Command = async ({ settings, daemon }) => {
  const log = await openLog({ level: settings.logLevel });
  try {
    await watchNode({ ...daemon, log }, settings);
    return 0;
  } finally {
    log.close();
  }
};
