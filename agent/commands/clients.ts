import { type ClientsReport, changesOf } from '../core/clients/report.ts';
import { clientsText } from '../core/clients/text-clients.ts';
import { type Command, type Context, EXIT, json } from './context.ts';

/** At most so often is looked again. */
const WATCH_MS = 1000;

/** Says who uses IMDS, and whether it is safe to block. Exit 0 when it could look, 2 when not. */
export const clients: Command = async (context) => {
  const isWatching = context.values['watch'] === true;
  const observer = await context.observeClients();
  try {
    const ending = isWatching ? context.untilEnd() : AbortSignal.abort();
    for (let shown: string | undefined; ; await pause(WATCH_MS, ending)) {
      const report = await observer.look(Date.now());
      const changes = changesOf(report);
      if (changes !== shown) context.print(printed(report, context.output, isWatching, shown === undefined));
      // Who is watching waits for a table that comes back; who asks for the first time learns that there is none.
      if (report.mode === 'absent' && shown === undefined) return EXIT.unknown;
      if (ending.aborted) return report.mode === 'absent' ? EXIT.unknown : 0;
      shown = changes;
    }
  } finally {
    observer.close();
  }
};

function printed(report: ClientsReport, output: Context['output'], isWatching: boolean, isFirst: boolean): string {
  if (output === 'json') return isWatching ? `${JSON.stringify(report)}\n` : json(report);
  return `${isFirst ? '' : '\n'}${clientsText(report)}`;
}

const pause = (ms: number, ending: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      ending.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    ending.addEventListener('abort', end);
  });
