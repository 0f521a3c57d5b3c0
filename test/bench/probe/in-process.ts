// `in-process.ts TIMES PATH…`, run on a node: probes all these networks at once, TIMES times, and prints what it cost this process.
import { probeNetworks } from '../../../agent/effects/probe-networks.ts';

export interface Cost {
  readonly probes: number;
  readonly cpuMs: number;
  readonly wallMs: readonly number[];
  /** How often each thing became of a bare GET: a probe that could not be made costs nothing, and says nothing. */
  readonly became: Readonly<Record<string, number>>;
}

const [times = '', ...paths] = process.argv.slice(2);
const networks = paths.map((path) => ({ path, families: ['ipv4'] as const, isToldByPort: false }));
const became: Record<string, number> = {};
const wallMs: number[] = [];

// Code is compiled and the library loaded by then.
for (let warm = 0; warm < Math.min(5, Number(times)); warm++) await probeNetworks(networks.slice(0, 20), 'imds-guard/bench');
const before = process.cpuUsage();
for (let time = 0; time < Number(times); time++) {
  const start = performance.now();
  const { tried } = await probeNetworks(networks, 'imds-guard/bench');
  wallMs.push(performance.now() - start);
  for (const { v1 } of tried) became[v1.is] = (became[v1.is] ?? 0) + 1;
}
const { user, system } = process.cpuUsage(before);
const cost: Cost = { probes: Number(times) * paths.length, cpuMs: (user + system) / 1000, wallMs, became };
console.log(JSON.stringify(cost));
