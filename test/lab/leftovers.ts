// Labs are removed even when nobody gets to call remove(): at process exit, and on the signals that end a test run.
// After a SIGKILL the node's resident does it (client.ts).
import { spawnSync, type ChildProcess } from 'node:child_process';

export interface Removal {
  readonly namespaces: readonly string[];
  processes(): readonly ChildProcess[];
}

const pending = new Set<Removal>();
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export function remember(removal: Removal): void {
  if (pending.size === 0) {
    process.on('exit', removeAll);
    for (const signal of signals) process.on(signal, removeAllAndObey);
  }
  pending.add(removal);
}

export function forget(removal: Removal): void {
  pending.delete(removal);
  if (pending.size > 0) return;
  process.off('exit', removeAll);
  for (const signal of signals) process.off(signal, removeAllAndObey);
}

/** Deletes what is there of the namespaces; that some are missing is no error. */
export function removeNow(removal: Removal): void {
  const input = removal.namespaces.map(name => `netns del ${name}\n`).join('');
  spawnSync('ip', ['-force', '-batch', '-'], { input, stdio: ['pipe', 'ignore', 'ignore'], env: process.env });
}

function removeAll(): void {
  for (const removal of pending) {
    for (const child of removal.processes()) child.kill('SIGKILL');
    removeNow(removal);
  }
}

function removeAllAndObey(signal: NodeJS.Signals): void {
  removeAll();
  for (const removal of [...pending]) forget(removal);
  process.kill(process.pid, signal);
}
