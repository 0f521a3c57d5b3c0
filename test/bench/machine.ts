import { readFileSync } from 'node:fs';
import { arch, cpus, loadavg, release } from 'node:os';
import type { Executable } from './executable.ts';
import { runFor } from './timing.ts';

/** What the numbers were measured on. */
export function machineText({ node, stale }: Executable): string {
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? arch();
  return [
    `${cpus().length} × ${model}, Linux ${release()}, load ${loadText()}`,
    `Node ${runFor(node, ['--version']).trim()}, ${runFor('iptables', ['--version']).trim()}, ${runFor('nft', ['--version']).trim()}`,
    ...(stale ? ['dist/ is older than agent/: these are the numbers of an earlier build'] : []),
    '',
  ].join('\n');
}

export const loadText = (): string => loadavg().map((one) => one.toFixed(1)).join(' ');
