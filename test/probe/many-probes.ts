// `many-probes.ts ROUNDS PATH…`, run on the node: probes all these networks again and again in one process, and prints what is
// different of it afterwards.
import { readdirSync, readlinkSync } from 'node:fs';
import { probeNetworks } from '../../agent/effects/probe-networks.ts';
import { NetworkNamespaces } from 'node-iptables/kernel';

export interface ManyProbes {
  readonly probes: number;
  /** How often each thing became of a bare GET. */
  readonly became: Readonly<Record<string, number>>;
  readonly before: Belongings;
  readonly after: Belongings;
}

interface Belongings {
  /** What its descriptors are, sorted; numbers of sockets and pipes are not told. */
  readonly descriptors: readonly string[];
  /** The network namespaces that its threads are in. */
  readonly namespaces: readonly string[];
}

function belongings(): Belongings {
  const descriptors = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\[\d+\]$/, '')];
    } catch {
      return []; // the one that the folder was read by
    }
  });
  return { descriptors: descriptors.sort(), namespaces: [...new Set(readdirSync('/proc/self/task').map((task) => readlinkSync(`/proc/self/task/${task}/ns/net`)))] };
}

const [rounds = '', ...paths] = process.argv.slice(2);
const became: Record<string, number> = {};

async function probeAll(): Promise<number> {
  const { tried } = await probeNetworks(paths.map((path) => ({ path, families: ['ipv4'] as const, isToldByPort: false })), 'imds-guard/test');
  for (const { v1 } of tried) became[v1.is] = (became[v1.is] ?? 0) + 1;
  return tried.length;
}

async function failInside(): Promise<void> {
  const namespaces = await NetworkNamespaces.open();
  try {
    namespaces.inside(paths[0]!, () => {
      throw new Error('in the middle of a namespace');
    });
  } catch {
    // That is what was wanted.
  } finally {
    namespaces.close();
  }
}

// The first time loads the library, which stays.
let probes = await probeAll();
const before = belongings();
for (let round = 1; round < Number(rounds); round++) {
  probes += await probeAll();
  await failInside();
}
// Sockets are closed in the next turn of the loop.
await new Promise((later) => setImmediate(later));
const result: ManyProbes = { probes, became, before, after: belongings() };
console.log(JSON.stringify(result));
