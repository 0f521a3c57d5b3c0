// Lives in the service's namespace: answers every request, and remembers its name.
import type { ServerOrder, ServerReply } from './agent-protocol.ts';

const net = process.getBuiltinModule('node:net');

/** Connections whose other end was reset behind a rule that drops are of no use to anybody. */
const idleMs = 60_000;
let served: string[] = [];

const server = net.createServer(socket => {
  socket.setNoDelay(true);
  socket.setTimeout(idleMs, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', data => {
    for (const [, name] of data.toString('latin1').matchAll(/^GET \/(\S+) /gm)) {
      served.push(name!);
      socket.write(`HTTP/1.1 200 OK\r\n\r\nyou are ${name}.\n`);
    }
  });
});

process.on('message', ({ id }: ServerOrder) => {
  process.send?.({ id, served } satisfies ServerReply);
  served = [];
});
process.on('disconnect', () => process.exit());

server.listen({ host: '169.254.169.254', port: 80, backlog: 4096 }, () => process.send?.({ id: 0, served: [] } satisfies ServerReply));
