// What a server can do to those who ask it, in place of an answer. None of it ends by itself.
import type { Socket } from 'node:net';
import type { Behaviour } from './protocol.ts';

export function misbehave(socket: Socket, behaviour: Exclude<Behaviour, 'ok' | number>): void {
  switch (behaviour) {
    case 'hang':
      return;
    case 'reset':
      socket.resetAndDestroy();
      return;
    case 'not-http':
      socket.write('\0\x16\x03\x01 220 this is no HTTP\r\n\r\n\r\n');
      return;
    case 'trickle':
      trickle(socket, 'HTTP/1.1 200 OK\r\nX-Slow: ');
      return;
    case 'endless-headers':
      socket.write('HTTP/1.1 200 OK\r\n');
      pour(socket, `X-More: ${'a'.repeat(1000)}\r\n`);
      return;
    case 'endless-body':
      socket.write('HTTP/1.1 200 OK\r\nServer: EC2ws\r\nContent-Type: text/plain\r\nContent-Length: 1099511627776\r\n\r\n');
      pour(socket, 'a'.repeat(65_536));
      return;
  }
}

/** As fast as the client reads, until it goes. */
function pour(socket: Socket, piece: string): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', more);
  more();
}

const pauseMs = 100;

/** Each byte in time, and never the last one. */
function trickle(socket: Socket, text: string): void {
  let at = 0;
  const timer = setInterval(() => socket.write(text[at++] ?? 'a'), pauseMs);
  socket.on('close', () => clearInterval(timer));
}
