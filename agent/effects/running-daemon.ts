import { takeLock } from './instance-lock.ts';

/**
 * The daemon that holds the lock of this network namespace; its pid is undefined where it is out of our sight. Undefined
 * when nobody holds it, when whoever does is not believed (anybody can hold the name, and must not keep an operator from
 * removing what is ours), and when it cannot be asked: then no daemon could take it either.
 */
export async function runningDaemon(): Promise<{ readonly pid: number | undefined } | undefined> {
  const lock = await takeLock().catch(() => undefined);
  if (lock === undefined) return undefined;
  if (lock.held) {
    await lock.release();
    return undefined;
  }
  lock.leave();
  return lock.squatter ? undefined : { pid: lock.leader.pid };
}
