// A listening socket of this process in another network namespace. A child that is born there makes it and hands it over; what
// connects is then seen by this process as it is, with its resets and refusals.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

const making = `
  const server = process.getBuiltinModule('node:net').createServer();
  server.on('error', error => process.send({ failed: String(error) }));
  server.listen(Number(process.argv[1]), '127.0.0.1', () => process.send({}, server));
  process.on('message', () => process.exit());
  process.on('disconnect', () => process.exit());`;

/** On 127.0.0.1; a port of 0 is one that is free. Without a namespace it is this process's own. Nothing accepts before it has a listener. */
export async function listenIn(namespace: string | undefined, port: number): Promise<Server> {
  if (namespace === undefined) {
    const server = createServer().listen(port, '127.0.0.1');
    await once(server, 'listening');
    return server;
  }
  const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, process.execPath, '-e', making, String(port)], {
    env: { PATH: process.env['PATH'], LC_ALL: 'C' }, // no NODE_OPTIONS: see lab/resident.ts
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const gone = once(child, 'exit');
  const [said, server] = (await Promise.race([once(child, 'message'), gone.then(() => [{ failed: 'it has ended' }])])) as [{ readonly failed?: string }, Server | undefined];
  // Its copy of the socket goes with it: as long as there is one, nobody is refused.
  if (child.connected) child.send('thanks', () => {});
  if (server === undefined) throw new Error(`nothing listens on port ${port} in ${namespace}: ${said.failed ?? 'no socket came'}`);
  await gone;
  return server;
}
