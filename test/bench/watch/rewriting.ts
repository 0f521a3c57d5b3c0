import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Rewriting {
  /** @returns how many rules a second it wrote: fewer than a thousand on a machine too busy for that */
  stop(): Promise<number>;
}

/** Somebody who rewrites a thousand nat rules a second. */
export function startRewriting(): Rewriting {
  const child = fork(fileURLToPath(new URL('kube-proxy.ts', import.meta.url)), { execArgv: [] });
  const startMs = performance.now();
  return {
    stop: async () => {
      child.send('how many');
      const [{ written }] = (await once(child, 'message')) as [{ written: number }];
      const tookMs = performance.now() - startMs;
      const gone = once(child, 'exit');
      child.disconnect();
      await gone;
      return written / (tookMs / 1000);
    },
  };
}
