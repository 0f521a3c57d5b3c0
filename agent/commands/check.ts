import type { Report } from '../core/report.ts';
import { npdLine, reportText } from '../core/text-report.ts';
import { verdict } from '../core/verdict.ts';
import { type Command, type Context, EXIT, json } from './context.ts';
import { observed } from './observe.ts';

/** Judges and changes nothing. Exit 0 blocked, 1 open, 2 unknown. */
export const check: Command = async (context) => {
  const report = verdict(await observed(context), context.settings);
  context.print(printed(report, context.output));
  return EXIT[report.answer];
};

export function printed(report: Report, output: Context['output']): string {
  switch (output) {
    case 'json':
      return json(report);
    case 'npd':
      return npdLine(report);
    case 'text':
      return reportText(report);
  }
}
