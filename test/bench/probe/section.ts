// The probe's section of `make bench`, in namespaces of its own: `section.ts LAUNCHER`.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Lab, type Pod, makeLab } from '../../lab/lab.ts';
import { type Row, msText, ratioText, tableText } from '../table.ts';
import { NotMeasured } from '../timing.ts';
import { costOf } from '../watch/process-cost.ts';
import type { Cost } from './in-process.ts';

const MOST_CPU_MS = 1;
const MOST_WALL_MS = 5000;
const PODS = 100;
/** Of each kind of cost. */
const PROBES = 500;
const AT_ONCE = 20;
const CURLS = 100;

const [launcher = ''] = process.argv.slice(2);
const script = fileURLToPath(new URL('in-process.ts', import.meta.url));
const paths = (pods: readonly Pod[]): string[] => pods.map(({ namespace }) => `/run/netns/${namespace}`);

async function inProcess(lab: Lab, times: number, pods: readonly Pod[], expected: string): Promise<Cost> {
  const { stdout, stderr, exitCode } = await lab.exec(lab.node, process.execPath, [script, String(times), ...paths(pods)]);
  if (exitCode !== 0) throw new NotMeasured(stderr);
  const cost = JSON.parse(stdout) as Cost;
  if (cost.became[expected] !== cost.probes) throw new NotMeasured(`not all of ${cost.probes} were ${expected}: ${JSON.stringify(cost.became)}`);
  return cost;
}

/** What a script would do: a process for each pod, which asks twice as the probe does, and throws the token away. Undefined without curl. */
function curlCpuMs(pod: Pod, seconds: string): number | undefined {
  const ask = ['-s', '-o', '/dev/null', '-m', seconds];
  const url = 'http://169.254.169.254/latest';
  const args = [`--net=/run/netns/${pod.namespace}`, 'curl', ...ask, `${url}/meta-data/`, '--next', ...ask, '-X', 'PUT', '-H', 'X-aws-ec2-metadata-token-ttl-seconds: 1', `${url}/api/token`];
  if (spawnSync('curl', ['--version']).status !== 0) return undefined;
  const before = costOf(process.pid).childrenCpuMs;
  for (let time = 0; time < CURLS; time++) {
    const { status, stderr } = spawnSync('nsenter', args, { encoding: 'utf8' });
    if (status !== 0) throw new NotMeasured(`curl in a pod: exit ${status} ${stderr}`);
  }
  return (costOf(process.pid).childrenCpuMs - before) / CURLS;
}

function cpuRow(what: string, { cpuMs, probes }: Cost, baselineMs: number | undefined): Row {
  const each = cpuMs / probes;
  return {
    what, baseline: baselineMs === undefined ? 'no curl' : msText(baselineMs), measured: `${each.toFixed(2)} ms`, ratio: baselineMs === undefined ? '' : ratioText(each / baselineMs),
    goal: `≤ ${MOST_CPU_MS} ms`, is: each <= MOST_CPU_MS ? 'ok' : 'over',
  };
}

function wallRow(what: string, wallMs: number, baselineMs: number): Row {
  return { what, baseline: msText(baselineMs), measured: msText(wallMs), ratio: ratioText(wallMs / baselineMs), goal: `≤ ${msText(MOST_WALL_MS)}`, is: wallMs <= MOST_WALL_MS ? 'ok' : 'over' };
}

async function measureAll(lab: Lab): Promise<Row[]> {
  const pods = Object.values(lab.pods);
  const reached = cpuRow('CPU of a probe that reaches IMDS', await inProcess(lab, PROBES / AT_ONCE, pods.slice(0, AT_ONCE), 'answered'), curlCpuMs(pods[0]!, '2'));
  const drops = await lab.exec(lab.node, 'nft', ['-f', '-'], { stdin: 'table inet drops {\n chain f {\n type filter hook forward priority filter\n ip daddr 169.254.169.254 drop\n }\n}\n' });
  if (drops.exitCode !== 0) throw new NotMeasured(drops.stderr);
  const alone = await inProcess(lab, 1, pods.slice(0, 1), 'silent');
  const together = await inProcess(lab, PROBES / PODS, pods, 'silent');
  const timedOut = cpuRow('CPU of a probe that times out', together, undefined);
  const start = performance.now();
  const { exitCode, stderr } = await lab.exec(lab.node, launcher, ['probe', '--all']);
  const wholeMs = performance.now() - start;
  if (exitCode !== 0) throw new NotMeasured(`probe: exit ${exitCode} ${stderr}`);
  return [
    reached,
    { ...timedOut, baseline: '' },
    wallRow(`${PODS} pods at once, a time-out in each`, Math.max(...together.wallMs), alone.wallMs[0]!),
    wallRow(`the same, imds-guard probe --all`, wholeMs, alone.wallMs[0]!),
  ];
}

const lab: Lab = await makeLab({ pods: Object.fromEntries(Array.from({ length: PODS }, (_, at) => [`pod${at}`, 'eni' as const])), residents: 'when-asked' });
try {
  process.stdout.write(tableText('probe', await measureAll(lab)));
  process.stdout.write('  baseline of CPU: nsenter and curl in the same pod, one process for two of its three requests. Of time: one pod alone, which times out.\n');
} catch (error) {
  if (!(error instanceof NotMeasured)) throw error;
  console.error(`not measured: probe: ${error.message}`);
  process.exitCode = 1;
} finally {
  await lab.remove();
}
