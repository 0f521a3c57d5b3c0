// `imds-guard clients` on a node with fifty pods: names exactly those that asked, while pods come and go.
import { once } from 'node:events';
import t, { type Test } from 'tap';
import type { ClientsReport } from '../../agent/core/clients/report.ts';
import { podName } from '../../agent/core/clients/node-clients.ts';
import { SINCE_SET, guardScript } from '../../agent/core/guard-table.ts';
import { apply, guard, program } from '../kernel/guard.ts';
import { type Lab, makeLab } from '../lab/lab.ts';
import { Pods, type ShortPod } from './pods.ts';

t.setTimeout(150_000);

async function makeNode(t: Test): Promise<{ lab: Lab; pods: Pods }> {
  const lab: Lab = await makeLab({ pods: {} });
  const pods = new Pods(lab);
  t.teardown(async () => {
    await pods.removeAll();
    await lab.remove();
  });
  return { lab, pods };
}

interface Told extends ClientsReport {
  readonly exitCode: number | undefined;
}
async function clients(lab: Lab, pods: Pods): Promise<Told> {
  const { exitCode, stdout, stderr } = await guard(lab, ['clients', '--output', 'json'], pods.before);
  if (stderr !== '') throw new Error(stderr);
  return { exitCode, ...(JSON.parse(stdout) as ClientsReport) };
}
const namesOf = ({ clients }: ClientsReport): string[] => clients.map(({ pods, interfaces }) => pods.map(podName).join(' or ') || interfaces.join(' ')).sort();
const sorted = (pods: readonly ShortPod[]): string[] => pods.map(({ name }) => name).sort();

t.test('without a table there is nothing to tell, and what to do is said', async (t) => {
  const { lab, pods } = await makeNode(t);
  t.match(await clients(lab, pods), { exitCode: 2, mode: 'absent', clients: [], conclusion: { answer: 'unknown', because: /there is no table inet imds-guard/, todo: /--mode observe/ } });
  t.match(await guard(lab, ['clients'], pods.before), { exitCode: 2, stdout: /^safe to block\? unknown: .*\n {2}do: imds-guard watch --mode observe/ });
});

t.test('safe to block: after a day in which nobody asked, and not a minute before; the daemon that takes over goes on', async (t) => {
  const { lab, pods } = await makeNode(t);
  const [web] = await pods.make(1);
  await apply(lab, ['--mode', 'observe']);
  t.match(await clients(lab, pods), { mode: 'observe', conclusion: { answer: 'unknown', because: 'nobody asked, but counting has gone on for 1 min only' } });
  const countedFor = async (hours: number): Promise<void> => {
    const script = guardScript('observe', true).replace('"imds-guard" }', `"imds-guard" expires ${SINCE_SET.timeoutMs / 3_600_000 - hours}h }`);
    t.match(await lab.exec(lab.node, 'nft', ['-f', '-'], { stdin: script }), { exitCode: 0 });
  };
  await countedFor(23);
  t.match(await clients(lab, pods), { conclusion: { answer: 'unknown', because: 'nobody asked, but counting has gone on for 23 h only' } });
  await countedFor(25);
  t.match(await clients(lab, pods), { exitCode: 0, conclusion: { question: 'safe-to-block', answer: 'yes', because: 'nobody asked within the last 25 h' } });
  t.match(await guard(lab, ['clients'], pods.before), { stdout: /^safe to block\? yes: nobody asked within the last 25 h\n/m });

  const daemon = lab.start(lab.node, program, ['watch', '--mode', 'observe', '--port', '0', '--no-probe'], { timeoutMs: 60_000 });
  for (let said = ''; !said.includes('"guard table: '); ) said += String((await once(daemon.stdout, 'data'))[0]);
  t.match(await clients(lab, pods), { conclusion: { answer: 'yes', because: 'nobody asked within the last 25 h' } });
  t.equal(await pods.ask(web!, 'v2'), 200);
  t.match(await clients(lab, pods), { conclusion: { answer: 'no', because: '1 client used IMDS within the last 25 h' } });
  daemon.kill('SIGTERM');
  await daemon;
});

for (const mode of ['observe', 'enforce'] as const) {
  t.test(`${mode}: exactly the pods that asked are named, under churn`, async (t) => {
    const { lab, pods } = await makeNode(t);
    const all = await pods.make(50);
    t.equal((await apply(lab, mode === 'observe' ? ['--mode', 'observe'] : [])).exitCode, mode === 'observe' ? 1 : 0);
    t.match(await clients(lab, pods), { exitCode: 0, mode, clients: [] });

    const asks = { v1: all.slice(0, 10), v2: all.slice(10, 20) };
    const expectedStatus = mode === 'observe' ? 200 : undefined;
    const patienceSeconds = mode === 'observe' ? 5 : 0.5;
    const looks: Promise<Told>[] = [];
    let late: ShortPod[] = [];
    // Meanwhile pods that have asked go, others that have not go too, and new ones come, of which some ask and go at once.
    for (let round = 0; round < 5; round += 1) {
      const [one, two] = [asks.v1.slice(round * 2, round * 2 + 2), asks.v2.slice(round * 2, round * 2 + 2)];
      const fresh = pods.make(4);
      looks.push(clients(lab, pods));
      const statuses = await Promise.all([...one.map((pod) => pods.ask(pod, 'v1', patienceSeconds)), ...two.map((pod) => pods.ask(pod, 'v2', patienceSeconds))]);
      t.same(statuses, Array(4).fill(expectedStatus), `round ${round}`);
      const [asking, silent, ...rest] = await fresh;
      t.equal(await pods.ask(asking!, 'v1', patienceSeconds), expectedStatus);
      late = [...late, asking!];
      await pods.remove([asking!, silent!, one[0]!, two[0]!, all[20 + round]!]);
      t.equal(rest.length, 2);
    }
    const asked = [...asks.v1, ...asks.v2, ...late];
    const told = await clients(lab, pods);
    t.same(namesOf(told), sorted(asked), 'nobody is missing, and nobody is named who did not ask');
    for (const look of await Promise.all(looks)) t.same(namesOf(look).filter((name) => !sorted(asked).includes(name)), [], 'nor while they came and went');

    const byName = new Map(told.clients.map((client) => [podName(client.pods[0]!), client]));
    for (const pod of asked) {
      const client = byName.get(pod.name)!;
      t.match(client, { pods: [{ uid: pod.uid }], interfaces: [pod.hostInterface], sources: [pod.address] }, pod.name);
      if (mode === 'enforce') t.match(client, { version: 'attempts-only', puts: 0, gets: 0 });
      else if (asks.v2.includes(pod)) t.match(client, { version: 'v2', attempts: 2, puts: 1, gets: 1 });
      else t.match(client, { version: 'v1', attempts: 1, puts: 0, gets: 1, doubt: /only GETs were seen/ });
      t.ok(client.attempts >= 1 && client.firstSeen !== undefined && client.lastSeen !== undefined && client.firstSeen <= client.lastSeen);
    }
    t.same(told.clients.filter(({ present }) => !present).map(({ pods }) => podName(pods[0]!)).sort(), sorted([...late, ...[0, 1, 2, 3, 4].flatMap((round) => [asks.v1[round * 2]!, asks.v2[round * 2]!])]), 'who is gone is said to be');
    t.match(told.conclusion, mode === 'observe' ? { question: 'safe-to-block', answer: 'no', because: /^25 clients/ } : { question: 'who-is-refused', answer: 'somebody', because: /^25 clients/ });
    t.equal(told.remarks.some((remark) => remark.startsWith('attempts only')), mode === 'enforce');

    await pods.remove([asks.v1[1]!], 'go');
    t.same(namesOf(await clients(lab, pods)), [...sorted(asked.filter((pod) => pod !== asks.v1[1])), asks.v1[1]!.hostInterface].sort(), 'without a folder of logs a pod that is gone is listed by its interface');
  });
}

/** Knocks at IMDS once from each of many addresses. */
const KNOCKS = `
const { connect } = require('node:net');
(async () => {
  for (let first = 0; first < 5000; first += 100) {
    const knocks = Array.from({ length: 100 }, (_, n) => connect({ host: '169.254.169.254', port: 80, localAddress: '10.99.' + ((first + n) >> 8) + '.' + ((first + n) & 255) }));
    for (const knock of knocks) knock.on('error', (error) => { console.error(String(error)); process.exit(1); });
    await new Promise(setImmediate);
    for (const knock of knocks) knock.destroy();
  }
})();`;

t.test('a pod that asks from 5,000 made-up addresses hides nobody', async (t) => {
  const { lab, pods } = await makeNode(t);
  const [flooding, before, after, silent] = await pods.make(4);
  await apply(lab);
  await pods.ask(before!, 'v1', 0.3);
  // Every address of this network is the pod's own: it may send from any of them.
  t.match(await lab.exec(flooding!.network, 'sh', ['-ec', 'ip link set lo up; echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind; ip route add local 10.99.0.0/16 dev lo']), { exitCode: 0 });
  t.match(await lab.exec(flooding!.network, process.execPath, ['-e', KNOCKS]), { exitCode: 0, stderr: '' });
  await pods.ask(after!, 'v2', 0.3);
  const told = await clients(lab, pods);
  t.same(namesOf(told), sorted([flooding!, before!, after!]));
  t.notOk(namesOf(told).includes(silent!.name));
  const [first] = told.clients.filter(({ pods }) => podName(pods[0]!) === flooding!.name);
  t.ok(first!.attempts >= 5000 && first!.moreSources > 1000, `${first!.attempts} attempts, ${first!.moreSources} more addresses`);
  t.match(told.remarks.filter((remark) => remark.startsWith('full')), [new RegExp(`clients4; ${flooding!.hostInterface} asked from \\d{4} addresses$`)]);
});

t.test('the node itself is listed apart: its cgroup, and who is connected right now', async (t) => {
  const { lab, pods } = await makeNode(t);
  await apply(lab);
  await lab.request('node');
  const live = await lab.openLive('node');
  const told = await clients(lab, pods);
  t.match(told, { exitCode: 0, clients: [], conclusion: { question: 'who-is-refused', answer: 'nobody' } });
  t.ok(told.nodeClients.some(({ processes }) => processes.some(({ pid }) => pid > 0)), JSON.stringify(told.nodeClients));
  t.ok(told.nodeClients.some(({ attempts = 0 }) => attempts >= 2) || told.remarks.some((remark) => remark.includes('cgroup')), 'counted, where this kernel has cgroup v2');
  await live.close();
});

t.test('--watch prints again when something has changed, one object a line, until it is told to stop', async (t) => {
  const { lab, pods } = await makeNode(t);
  const [web] = await pods.make(1);
  await apply(lab, ['--mode', 'observe']);
  const [file = '', ...args] = [...pods.before, program, 'clients', '--watch', '--output', 'json'];
  const watching = lab.start(lab.node, file, args, { timeoutMs: 60_000 });
  const lines: ClientsReport[] = [];
  let rest = '';
  watching.stdout.on('data', (part: Buffer) => {
    const parts = `${rest}${String(part)}`.split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts.map((line) => JSON.parse(line) as ClientsReport));
  });
  const until = async (count: number): Promise<void> => {
    for (const end = Date.now() + 20_000; lines.length < count && Date.now() < end; ) await new Promise((later) => setTimeout(later, 50));
  };
  await until(1);
  await new Promise((later) => setTimeout(later, 2500));
  t.equal(lines.length, 1, 'nothing is printed while nothing changes');
  t.equal(await pods.ask(web!, 'v2'), 200);
  await until(2);
  t.same(lines.slice(1).flatMap(namesOf), [web!.name]);
  watching.kill('SIGTERM');
  t.match(await watching, { exitCode: 0, stderr: '' });
});

t.test('--watch ends when nobody reads what it prints any more', async (t) => {
  const { lab, pods } = await makeNode(t);
  const [web] = await pods.make(1);
  await apply(lab, ['--mode', 'observe']);
  const piped = lab.start(lab.node, 'sh', ['-c', `${program} clients --watch --output json | head -n 1; echo read`], { timeoutMs: 60_000 });
  await once(piped.stdout, 'data');
  t.equal(await pods.ask(web!, 'v1'), 200);
  const { exitCode, stderr } = await piped;
  t.same({ exitCode, stderr }, { exitCode: 0, stderr: '' });
});

t.test("the daemon's own table is read, and a pod that is refused there is named", async (t) => {
  const { lab, pods } = await makeNode(t);
  const [web, silent] = await pods.make(2);
  const daemon = lab.start(lab.node, program, ['watch', '--port', '0', '--no-probe'], { timeoutMs: 60_000 });
  for (const end = Date.now() + 20_000; (await clients(lab, pods)).exitCode !== 0 && Date.now() < end; );
  t.equal(await pods.ask(web!, 'v2', 0.5), undefined);
  t.match(await clients(lab, pods), { exitCode: 0, mode: 'enforce', clients: [{ pods: [{ name: 'web-1', uid: web!.uid }] }] });
  t.notOk(namesOf(await clients(lab, pods)).includes(silent!.name));
  daemon.kill('SIGTERM');
  await daemon;
  t.same(namesOf(await clients(lab, pods)), [web!.name], 'what it counted stays when it has stopped');
});
