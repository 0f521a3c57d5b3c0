// Lives in a pod's namespace: opens connections to the service and asks over them. Never decides how long to wait.
import type { Socket } from 'node:net';
import type { PodOrder, PodReply } from './agent-protocol.ts';

const net = process.getBuiltinModule('node:net');

const service = { host: '169.254.169.254', port: 80 };
const openMs = 2000;
const lives = new Map<number, Socket>();

process.on('message', (order: PodOrder) => {
  const answered = order.do === 'open' ? open(order.port) : attempt(order);
  void answered.then(answeredMs => process.send?.({ id: order.id, answeredMs } satisfies PodReply));
});
process.on('disconnect', () => process.exit());

async function open(port: number): Promise<number | undefined> {
  const socket = connect(port);
  const answeredMs = await ask(socket, 'open', openMs);
  if (answeredMs === undefined) socket.destroy();
  else lives.set(port, socket);
  return answeredMs;
}

async function attempt({ port, live, name, waitMs }: Extract<PodOrder, { do: 'attempt' }>): Promise<number | undefined> {
  const socket = live ? lives.get(port) : connect(port);
  if (!socket) return undefined;
  lives.delete(port);
  // A second packet on a live connection is what a retransmission would be, without the wait: rules that mark a
  // connection may treat it differently from the first.
  const again = live ? setTimeout(() => socket.write(requestFor(name)), waitMs / 2) : undefined;
  const answeredMs = await ask(socket, name, waitMs);
  clearTimeout(again);
  // Ended with a reset, so that nothing of this round is sent again in the next. (A socket that is still connecting
  // would put its reset off until it is connected, and go on trying until then.)
  if (socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
  return answeredMs;
}

function connect(localPort: number): Socket {
  const socket = net.connect({ ...service, localPort, noDelay: true });
  socket.on('error', () => socket.destroy());
  return socket;
}

function ask(socket: Socket, name: string, waitMs: number): Promise<number | undefined> {
  const startedMs = performance.now();
  return new Promise(resolve => {
    const settle = (answeredMs: number | undefined): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('close', onClose);
      resolve(answeredMs);
    };
    const onData = (data: Buffer): void => {
      if (data.includes(`you are ${name}.`)) settle(performance.now() - startedMs);
    };
    const onClose = (): void => settle(undefined);
    const timer = setTimeout(() => settle(undefined), waitMs);
    socket.on('data', onData).on('close', onClose);
    socket.write(requestFor(name));
  });
}

function requestFor(name: string): string {
  return `GET /${name} HTTP/1.1\r\nHost: imds\r\n\r\n`;
}
