import type { ClientCounts } from './counts.ts';
import type { Client } from './report.ts';

/** While nothing is blocked: is it safe to? When all is blocked: who is refused? */
export type Conclusion =
  | { readonly question: 'safe-to-block'; readonly answer: 'yes' | 'no' | 'unknown'; readonly because: string; readonly todo?: string }
  | { readonly question: 'who-is-refused'; readonly answer: 'nobody' | 'somebody'; readonly because: string };

/** A job that runs once a day must have had its turn. */
const ENOUGH_MS = 24 * 3_600_000;
const OBSERVE = 'imds-guard watch --mode observe (or once: imds-guard apply --mode observe), and wait a day';

/** `yes` only where everybody who could have asked was watched for a day, and nobody did. Doubt never adds up to yes. */
export function conclude(counts: ClientCounts, clients: readonly Client[], countedMs: number | undefined): Conclusion {
  if (counts.state === 'absent') return { question: 'safe-to-block', answer: 'unknown', because: `nothing is counted: ${counts.because}`, todo: counts.because.startsWith('not permitted') ? 'run this as root of the node' : OBSERVE };
  const who = `${clients.length} ${clients.length === 1 ? 'client' : 'clients'}`;
  if (counts.mode === 'enforce') {
    return clients.length === 0
      ? { question: 'who-is-refused', answer: 'nobody', because: 'no pod asked for IMDS' }
      : { question: 'who-is-refused', answer: 'somebody', because: `${who} asked for IMDS` };
  }
  const question = 'safe-to-block';
  if (clients.length > 0) return { question, answer: 'no', because: `${who} used IMDS${countedMs === undefined ? '' : ` within the last ${hours(countedMs)}`}`, todo: 'give each of them what it needs, as said beside it, and wait until it asks no more' };
  if (!counts.seesPayload) return { question, answer: 'unknown', because: 'nobody asked, but only new connections could be counted: one that is kept open would not have been seen' };
  if (counts.full.length > 0) return { question, answer: 'unknown', because: 'not all could be counted' };
  if (countedMs === undefined) return { question, answer: 'unknown', because: 'nobody asked since counting began, and when that was cannot be told', todo: 'if you know that it was a day ago or more, it is: else wait a day' };
  if (countedMs < ENOUGH_MS) return { question, answer: 'unknown', because: `nobody asked, but counting has gone on for ${hours(countedMs)} only`, todo: 'wait until it has gone on for a day' };
  return { question, answer: 'yes', because: `nobody asked within the last ${hours(countedMs)}` };
}

/** Rounded down, but for the first minute. */
const hours = (ms: number): string => (ms < 3_600_000 ? `${Math.max(1, Math.floor(ms / 60_000))} min` : `${Math.floor(ms / 3_600_000)} h`);
