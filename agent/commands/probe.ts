import { probeText } from '../core/probe/text-probe.ts';
import { type Command, EXIT, json } from './context.ts';

/** Sends real packets from the networks of pods, and says what became of them. Exit 0 blocked, 1 open, 2 unknown. */
export const probe: Command = async (context) => {
  const report = await context.probe({ all: context.values['all'] === true });
  context.print(context.output === 'json' ? json(report) : probeText(report));
  return EXIT[report.answer];
};
