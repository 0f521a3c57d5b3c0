import { mkdtempSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from 'node-iptables/exec';
import t from 'tap';

t.test('a program that is nowhere is not installed, even where one directory of PATH may not be searched', async (t) => {
  const locked = mkdtempSync(join(tmpdir(), 'locked-'));
  chmodSync(locked, 0);
  const failure = await run({ program: 'no-such-program', args: [], timeoutMs: 5000, path: locked }).catch((error: unknown) => error);
  t.match(failure, { kind: 'not-installed' });
});
