/** What a client of HTTP/1 asks for, as far as it decides an answer. What else it sends is not looked at. */
export type RequestHead =
  | { readonly is: 'asked'; readonly method: string; readonly path: string }
  /** More may come. */
  | { readonly is: 'unfinished' }
  | { readonly is: 'refused'; readonly code: 400 | 431; readonly because: string };

const MOST_BYTES = 8 * 1024;

/** @param text all that has come so far, a character for each byte. What follows the first head is not read. */
export function requestHead(text: string): RequestHead {
  const end = text.indexOf('\r\n\r\n');
  if (!/^[A-Z]{1,20}(?: |$)/.test(text)) return text === '' ? { is: 'unfinished' } : nonsense;
  if (end > MOST_BYTES || (end === -1 && text.length > MOST_BYTES)) return { is: 'refused', code: 431, because: `more than ${MOST_BYTES} bytes` };
  if (end === -1) return { is: 'unfinished' };
  const [line = '', ...fields] = text.slice(0, end).split('\r\n');
  const [, method, path, minor] = /^(\S+) ([!->@-~]+)(?:\?[!-~]*)? HTTP\/1\.([01])$/.exec(line) ?? [];
  if (method === undefined || path === undefined) return nonsense;
  if (minor === '1' && !fields.some((field) => /^host:/i.test(field))) return { is: 'refused', code: 400, because: 'no Host' };
  return { is: 'asked', method, path };
}

const nonsense: RequestHead = { is: 'refused', code: 400, because: 'not a request of HTTP/1' };
