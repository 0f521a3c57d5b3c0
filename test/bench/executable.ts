import { copyFileSync, existsSync, linkSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NotMeasured } from './timing.ts';

/** dist/ as it was when the bench began: another build may replace it at any time. */
export interface Executable {
  readonly directory: string;
  readonly launcher: string;
  /** What the launcher hands to Node. */
  readonly entry: string;
  readonly node: string;
  /** Sources are newer than the bundle: what is measured is not what is in agent/. */
  readonly stale: boolean;
  readonly remove: () => void;
}

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** @throws NotMeasured when nothing was built */
export function takeExecutable(): Executable {
  const dist = join(root, 'dist');
  if (!existsSync(join(dist, 'imds-guard'))) throw new NotMeasured('there is no dist/imds-guard: run `make build`');
  // Beside dist/, on the same file system, because 120 MB of Node are linked in no time and copied in some.
  const directory = mkdtempSync(join(root, 'node_modules', '.bench-'));
  for (const name of readdirSync(dist)) linkOrCopy(join(dist, name), join(directory, name));
  const built = statSync(join(directory, 'imds-guard.cjs')).mtimeMs;
  const sources = readdirSync(join(root, 'agent'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  return {
    directory,
    launcher: join(directory, 'imds-guard'),
    entry: join(directory, existsSync(join(directory, 'start.cjs')) ? 'start.cjs' : 'imds-guard.cjs'),
    node: join(directory, 'node'),
    stale: sources.some((name) => statSync(join(root, 'agent', name)).mtimeMs > built),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}
