import type { LogLevel } from '../core/settings.ts';
import { FoldRepeats, type Told } from '../core/watch/fold-repeats.ts';
import { LineOutput } from './line-output.ts';

export interface LogOptions {
  readonly level: LogLevel;
  readonly fd?: number;
  readonly windowMs?: number;
}

/** What a line says beside its message. Two lines of one level, message and `key` are repeats, whatever else they say. */
export interface LogFields {
  readonly key?: string;
  readonly [name: string]: unknown;
}

export interface Log {
  /** Never throws, and never waits. */
  readonly event: (level: LogLevel, message: string, fields?: LogFields) => void;
  /** Lines that could not be written. */
  readonly droppedLines: () => number;
  /** Tells the repeats that are still counted. Nothing is logged afterwards. */
  readonly close: () => void;
}

interface Event {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

const MINUTE_MS = 60_000;
/** Different lines that are remembered, to know a repeat. */
const AT_MOST = 256;

/**
 * One JSON object a line, on standard output: `{"level":"warn","time":"2026-11-22T20:00:00.000Z","pid":1,"msg":"…",…}`.
 * pino only makes the text. Its own output waits and throws when a disk is full, and gives up for ever on a closed pipe.
 */
export async function openLog({ level, fd = 1, windowMs = MINUTE_MS }: LogOptions): Promise<Log> {
  const output = new LineOutput(fd);
  const { pino, stdTimeFunctions } = await import('pino');
  const logger = pino({ level, base: { pid: process.pid }, timestamp: stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } }, output);
  const repeats = new FoldRepeats<Event>(windowMs, AT_MOST);
  let timer: NodeJS.Timeout | undefined;
  let told = 0;

  function tell({ event, repeated }: Told<Event>): void {
    const lost = output.droppedLines;
    logger[event.level](repeated > 0 ? { ...event.fields, repeated } : event.fields, event.message);
    if (lost === told || output.droppedLines > lost) return;
    told = lost;
    logger.warn({ droppedLines: lost }, 'lines before this one could not be written');
  }

  function tellAll(events: readonly Told<Event>[]): void {
    for (const event of events) tell(event);
    clearTimeout(timer);
    if (repeats.nextEnd === undefined) return;
    timer = setTimeout(() => tellAll(repeats.ended(performance.now())), Math.max(0, repeats.nextEnd - performance.now()));
    timer.unref();
  }

  return {
    event: (of, message, fields = {}) => {
      if (logger.isLevelEnabled(of)) tellAll(repeats.happened(JSON.stringify([of, message, fields.key]), { level: of, message, fields }, performance.now()));
    },
    droppedLines: () => output.droppedLines,
    close: () => {
      tellAll(repeats.close());
      output.close();
    },
  };
}
