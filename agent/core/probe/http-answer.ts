/** What came back on one connection, as far as a probe wants to know. */
export type HttpAnswer =
  | { readonly is: 'unfinished' }
  | { readonly is: 'answered'; readonly status: number; readonly body: string }
  | { readonly is: 'garbage'; readonly because: string };

/** More than IMDS ever sends to what a probe asks (a token is 56 characters); whoever sends more is read no further. */
export const MOST_ANSWER_BYTES = 16 * 1024;

/**
 * Reads an HTTP/1.1 answer of which these bytes have come. Only as much of HTTP as IMDS speaks, and strictly: who answers may be
 * anybody.
 *
 * @param text the bytes so far, one character each (latin1)
 * @param ended whether no more will come
 */
export function readHttpAnswer(text: string, ended: boolean): HttpAnswer {
  const unfinished = (): HttpAnswer => (ended ? { is: 'garbage', because: text === '' ? 'the connection was closed without an answer' : 'the answer breaks off' } : { is: 'unfinished' });
  // `HTTP/1.1 200 OK`; whatever else a line begins with is no answer, and there is no need to wait for more of it.
  if (!text.startsWith(PROTOCOL.slice(0, text.length))) return { is: 'garbage', because: 'what answers does not speak HTTP' };
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return text.length > MOST_ANSWER_BYTES ? { is: 'garbage', because: 'the answer has headers without end' } : unfinished();
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(first)?.[1];
  if (status === undefined) return { is: 'garbage', because: 'the answer has no status' };
  const headers = new Map(lines.map((line) => [line.split(':', 1)[0]!.trim().toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
  const answered = (body: string): HttpAnswer => ({ is: 'answered', status: Number(status), body });
  const rest = text.slice(end + 4);
  const length = headers.get('content-length');
  if (length !== undefined && /^\d{1,9}$/.test(length)) {
    const bytes = Math.min(Number(length), MOST_ANSWER_BYTES);
    return rest.length >= bytes ? answered(rest.slice(0, bytes)) : unfinished();
  }
  // No other answer than a token's is read; its status is all that is wanted of one whose end cannot be told.
  return /chunked/i.test(headers.get('transfer-encoding') ?? '') ? chunked(rest, answered, unfinished) : ended || rest.length > MOST_ANSWER_BYTES ? answered(rest) : unfinished();
}

const PROTOCOL = 'HTTP/1.';

function chunked(rest: string, answered: (body: string) => HttpAnswer, unfinished: () => HttpAnswer): HttpAnswer {
  let body = '';
  let at = 0;
  for (;;) {
    const line = rest.indexOf('\r\n', at);
    if (line < 0) return rest.length - at > MOST_CHUNK_LINE ? { is: 'garbage', because: 'the answer is not what it says (chunked)' } : unfinished();
    const size = /^([0-9a-f]{1,6})\s*(?:;.*)?$/i.exec(rest.slice(at, line))?.[1];
    if (size === undefined) return { is: 'garbage', because: 'the answer is not what it says (chunked)' };
    const bytes = parseInt(size, 16);
    if (bytes === 0 || body.length > MOST_ANSWER_BYTES) return answered(body);
    at = line + 2;
    if (rest.length < at + bytes + 2) return rest.length > MOST_ANSWER_BYTES ? answered(body + rest.slice(at)) : unfinished();
    body += rest.slice(at, at + bytes);
    at += bytes + 2;
  }
}
const MOST_CHUNK_LINE = 256;
