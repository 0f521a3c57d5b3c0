// What the guard table of the lab's node has counted.
import { fileURLToPath } from 'node:url';
import type { ClientCounts } from '../../agent/core/clients/counts.ts';
import type { Lab } from '../lab/lab.ts';
import { type Before, must } from './guard.ts';

const printCounts = fileURLToPath(new URL('print-counts.ts', import.meta.url));

export type Counted = Extract<ClientCounts, { state: 'counted' }>;

export async function counted(lab: Lab): Promise<Counted> {
  const counts = await read(lab);
  if (counts.state !== 'counted') throw new Error(counts.because);
  return counts;
}

export async function read(lab: Lab, before: Before = []): Promise<ClientCounts> {
  const [file = '', ...args] = [...before, process.execPath, printCounts];
  return JSON.parse(await must(lab, file, ...args)) as ClientCounts;
}
