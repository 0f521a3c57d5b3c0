import { Socket } from 'node:net';
import type { Family } from 'node-iptables';
import { IMDS, IMDS_PORT } from '../core/addresses.ts';
import { MOST_ANSWER_BYTES, readHttpAnswer } from '../core/probe/http-answer.ts';
import type { Tried } from '../core/probe/tried.ts';

export interface Patience {
  readonly connectMs: number;
  readonly answerMs: number;
  /** The connection is made at once, and the request is sent when this says yes; where it says no, it never is. */
  readonly mayAsk?: Promise<boolean>;
}

/**
 * One request on a connection of its own.
 *
 * @param fd a TCP socket that is not connected yet, of whichever network namespace; closed when this resolves. Never rejects.
 */
export function exchange(fd: number, port: number, family: Family, request: string, { connectMs, answerMs, mayAsk }: Patience): Promise<Tried> {
  return new Promise((resolve) => {
    let connected = false;
    let text = '';
    const socket = new Socket({ fd, readable: true, writable: true, manualStart: true } as ConstructorParameters<typeof Socket>[0]);
    let isSettled = false;
    const settle = (tried: Tried): void => {
      isSettled = true;
      clearTimeout(timer);
      // A reset leaves no port behind that waits (TIME_WAIT) in somebody else's namespace.
      if (connected) socket.resetAndDestroy();
      else socket.destroy();
      resolve(tried);
    };
    const read = (ended: boolean): void => {
      const answer = readHttpAnswer(text, ended);
      if (answer.is === 'answered') settle({ is: 'answered', status: answer.status, body: answer.body, port });
      else if (answer.is === 'garbage') settle({ is: 'broken', because: answer.because, port });
    };
    let timer = setTimeout(() => settle({ is: 'silent', during: 'connect', port }), connectMs);
    socket.on('connect', () => {
      connected = true;
      clearTimeout(timer);
      if (mayAsk === undefined) return send();
      void mayAsk.then((may) => (may ? send() : settle({ is: 'withheld', port })));
    });
    const send = (): void => {
      if (isSettled) return;
      timer = setTimeout(() => settle(text === '' ? { is: 'silent', during: 'answer', port } : { is: 'broken', because: 'the answer did not end in time', port }), answerMs);
      socket.write(request, 'latin1');
    };
    socket.on('data', (data: Buffer) => {
      text += data.toString('latin1', 0, MOST_ANSWER_BYTES * 2);
      read(false);
    });
    socket.on('end', () => read(true));
    socket.on('error', (error: NodeJS.ErrnoException) => settle(failed(error, connected, port)));
    socket.on('close', () => settle(connected ? { is: 'broken', because: 'the connection was closed without an answer', port } : { is: 'refused', code: 'closed', port }));
    socket.connect({ host: IMDS[family], port: IMDS_PORT, family: family === 'ipv4' ? 4 : 6 } as Parameters<Socket['connect']>[0] & object);
  });
}

/** errno of connect(2): no way out was found at all, before a packet was sent. */
const NO_ROUTE: ReadonlySet<string> = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

function failed({ code = 'an error', message }: NodeJS.ErrnoException, connected: boolean, port: number): Tried {
  // A SYN that is reset is ECONNREFUSED: this connection stood, however short, and we had not been told yet.
  if (connected || code === 'ECONNRESET') return { is: 'broken', because: code === 'ECONNRESET' ? 'the connection stood and was reset' : message, port };
  if (NO_ROUTE.has(code)) return { is: 'no-route', code };
  return code === 'ETIMEDOUT' ? { is: 'silent', during: 'connect', port } : { is: 'refused', code, port };
}
