import type { Socket } from 'node:net';
import { requestHead } from '../core/request-head.ts';
import type { Asked, StatusAnswer } from './status-answers.ts';

/**
 * Answers the first request on a connection, and ends it. Not by node:http, which reads and answers all that a client sends
 * at once before it looks at anything else: with 200 requests on each of 40 connections that is seconds.
 *
 * @param patienceMs how long a client may take to ask, and again to take its answer
 * @param answer undefined where the connection is to end without one
 */
export function answerOne(socket: Socket, patienceMs: number, answer: (asked: Asked) => StatusAnswer | undefined): void {
  let text = '';
  let unreadBytes = MOST_UNREAD_BYTES;
  const patience = setTimeout(() => socket.destroy(), patienceMs);
  // That a client is gone is no trouble of ours.
  socket.on('error', () => {}).on('close', () => clearTimeout(patience));
  const read = (part: Buffer): void => {
    text += part.toString('latin1');
    const head = requestHead(text);
    if (head.is === 'unfinished') return;
    socket.off('data', read);
    const answered = answer(head);
    if (!answered) return void socket.resetAndDestroy();
    // Closed with something unread, the kernel resets the connection, and the client may lose its answer.
    socket.on('data', ({ length }) => (unreadBytes -= length) < 0 && socket.destroy());
    patience.refresh();
    socket.cork();
    socket.write(headOf(answered));
    if (head.is !== 'asked' || head.method !== 'HEAD') socket.write(answered.body);
    socket.end();
  };
  socket.on('data', read);
}

const MOST_UNREAD_BYTES = 64 * 1024;

const headOf = ({ code, type, body }: StatusAnswer): string =>
  [
    `HTTP/1.1 ${code} ${WORDS[code] ?? ''}`,
    `Date: ${new Date().toUTCString()}`,
    `Content-Type: ${type}`,
    `Content-Length: ${body.length}`,
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    ...(code === 405 ? ['Allow: GET, HEAD'] : []),
    'Connection: close',
    '\r\n',
  ].join('\r\n');

const WORDS: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};
