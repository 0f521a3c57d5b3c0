import { join, wantsEvery } from '../core/probe/join.ts';
import type { Observation } from '../core/probe/joined-report.ts';
import type { Report } from '../core/report.ts';
import { npdLine, reportText } from '../core/text-report.ts';
import { prometheusText } from '../core/text-prometheus.ts';
import { verdict } from '../core/verdict.ts';
import { type Command, type Context, EXIT, json } from './context.ts';
import { observed } from './observe.ts';

/** Judges and changes nothing: the rules, and packets that are sent meanwhile. Exit 0 blocked, 1 open, 2 unknown. */
export const check: Command = async (context) => {
  const sent = sendPackets(context, false);
  const report = verdict(await observed(context), context.settings);
  const first = await sent;
  const joined = join(report, wantsEvery(report, first) ? await sendPackets(context, true) : first);
  context.print(printed(joined, context.output));
  return EXIT[joined.answer];
};

/** Never rejects: what rules tell is told without packets too. */
async function sendPackets({ settings, values, probe }: Context, all: boolean): Promise<Observation> {
  if (values['from'] !== undefined) return { state: 'not-tried', because: 'files were judged, not this node' };
  if (!settings.probe) return { state: 'not-tried', because: 'switched off by the settings' };
  try {
    return { state: 'tried', ...(await probe({ all })) };
  } catch (error) {
    return { state: 'not-tried', because: error instanceof Error ? error.message : String(error) };
  }
}

export function printed(report: Report, output: Context['output']): string {
  switch (output) {
    case 'json':
      return json(report);
    case 'npd':
      return npdLine(report);
    case 'prometheus':
      return prometheusText(report, Math.round(Date.now() / 1000));
    case 'text':
      return reportText(report);
  }
}
