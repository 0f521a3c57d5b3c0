// Five thousand nodes at one real API server: what they ask of it at rest and when something comes to all of them at once, and
// how long a person waits for `fleet`. The reporter is the daemon's own, five thousand times; nodes are objects without kubelets.
//
//   make soak ONLY=fleet [NODES=5000]
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { conditionOf } from '../../agent/core/kubernetes/condition.ts';
import { KubeClient } from '../../agent/effects/kube-client.ts';
import { NodeCondition } from '../../agent/reporters/node-condition.ts';
import { systemClock } from '../../agent/watch/clock.ts';
import { startApiServer } from '../cluster/api-server.ts';
import { missing } from '../cluster/binaries.ts';
import { asker, granted } from '../cluster/request.ts';
import { program } from '../kernel/guard.ts';

const BOOT = '0f5c1a2b-0000-4000-8000-000000000001';
const RACK = 50;
/** The longest period of a heartbeat. */
const PERIOD_MS = 330_000;

export interface FleetOutcome {
  readonly nodes: number;
  readonly restPerSecond: number;
  readonly burstSeconds: number;
  readonly burstPeakPerSecond: number;
  readonly fleetSeconds: number;
  readonly totals: Readonly<Record<string, number>>;
}

/** @returns why it cannot be tried, or what was seen */
export async function fleetSoak(nodes = 5000): Promise<FleetOutcome | string> {
  const without = await missing('etcd', 'kube-apiserver');
  if (without !== false) return without;
  const server = await startApiServer();
  const folder = mkdtempSync(join(tmpdir(), 'imds-guard-fleet-'));
  try {
    const names = Array.from({ length: nodes }, (_, at) => `ip-10-0-${Math.floor(at / 250)}-${at % 250}.eu-west-1.compute.internal`);
    const admin = asker(server.url, readFileSync(server.caFile, 'utf8'), server.adminToken, new Agent({ keepAlive: true, maxSockets: 32 }));
    for (let at = 0; at < nodes; at += RACK) await Promise.all(names.slice(at, at + RACK).map((name) => granted(admin('POST', '/api/v1/nodes', nodeObject(name)))));

    const writes: number[] = [];
    const client = new KubeClient({ read: async () => ({ server: server.url, tls: { ca: readFileSync(server.caFile, 'utf8') }, authorization: `Bearer ${server.adminToken}` }) });
    const reporters = names.map((node) => new NodeCondition({
      clock: systemClock, node, bootId: BOOT, startupTaint: undefined, log: () => {},
      ask: async (request) => {
        if (request.method === 'PATCH') writes.push(performance.now());
        return client.ask(request);
      },
    }));
    const [yes, no] = [conditionOf({ answer: 'blocked', reason: 'EveryPacketDropped', message: '', basis: ['rules'] }, BOOT), conditionOf({ answer: 'open', reason: 'PacketPasses', message: '', basis: ['rules'] }, BOOT)];
    for (const reporter of reporters) {
      reporter.start();
      reporter.report(yes);
    }
    // Each tells twice: that it starts, and what it found.
    await until(() => reporters.every(({ outcomes }) => (outcomes.get('written') ?? 0) >= 2));

    // All began within seconds, as on no cluster: what is counted is a whole period of heartbeats.
    const restFrom = performance.now();
    await new Promise((later) => setTimeout(later, PERIOD_MS));
    const restPerSecond = writes.filter((at) => at >= restFrom).length / ((performance.now() - restFrom) / 1000);

    const changedAt = performance.now();
    for (const reporter of reporters) reporter.report(no);
    await until(() => writes.filter((at) => at >= changedAt).length >= nodes && performance.now() - writes.at(-1)! > 1000);
    const burst = writes.filter((at) => at >= changedAt).slice(0, nodes).map((at) => (at - changedAt) / 1000);
    const perSecond = [...Map.groupBy(burst, Math.floor).values()].map(({ length }) => length);

    const config = join(folder, 'config');
    writeFileSync(config, JSON.stringify({ 'current-context': 'it', contexts: [{ name: 'it', context: { cluster: 'it', user: 'me' } }], clusters: [{ name: 'it', cluster: { server: server.url, 'certificate-authority': server.caFile } }], users: [{ name: 'me', user: { token: server.adminToken } }] }));
    const times: number[] = [];
    let totals: FleetOutcome['totals'] = {};
    for (let run = 0; run < 3; run += 1) {
      const from = performance.now();
      const { stdout } = await execa(program, ['fleet', '--kubeconfig', config, '--output', 'json'], { reject: false, maxBuffer: 100 * 1024 * 1024 });
      times.push((performance.now() - from) / 1000);
      ({ totals } = JSON.parse(stdout) as { totals: FleetOutcome['totals'] });
    }
    await Promise.all(reporters.map((reporter) => reporter.stop()));
    client.close();
    return { nodes, restPerSecond, burstSeconds: Math.max(...burst) - Math.min(...burst), burstPeakPerSecond: Math.max(...perSecond), fleetSeconds: times.sort((a, b) => a - b)[1]!, totals };
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

/** As large as a kubelet makes it: fifty images are most of a Node. */
const nodeObject = (name: string) => ({
  apiVersion: 'v1', kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'node.kubernetes.io/instance-type': 'm6i.large', 'topology.kubernetes.io/zone': 'eu-west-1a' } },
  spec: {},
  status: {
    nodeInfo: { bootID: BOOT, architecture: 'amd64', containerRuntimeVersion: 'containerd://2.0', kernelVersion: '6.12', kubeProxyVersion: '', kubeletVersion: 'v1.36.0', machineID: '', operatingSystem: 'linux', osImage: 'Amazon Linux 2023', systemUUID: '' },
    images: Array.from({ length: 50 }, (_, at) => ({ names: [`602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/image-${at}@sha256:${'0'.repeat(64)}`], sizeBytes: 1_000_000 })),
  },
});

async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise((later) => setTimeout(later, 200));
}
