// What this project is for, with real packets: `make demo`. Every claim is checked; the first that does not hold ends it.
//
// Runs inside test/lab/sandbox.ts, so nothing of it can reach the machine's own firewall.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { makeLab, type Answer, type Lab, type RequestOptions } from '../lab/lab.ts';
import { rulesOf } from './rules-of.ts';
import { Unmet } from './unmet.ts';

const guard = fileURLToPath(new URL('../../dist/imds-guard', import.meta.url));
const imds = '169.254.169.254/32';
const accept = ['FORWARD', '-i', 'eni+', '-m', 'comment', '--comment', 'cali:aBcDeFgHiJkLmNoP', '-j', 'ACCEPT'];
const drop = ['FORWARD', '-i', 'eni+', '-d', imds, '-j', 'DROP'];

const clients = ['eni', 'vlan', 'veth', 'ipv6', 'node'] as const;
type Client = (typeof clients)[number];
const who: Readonly<Record<Client, string>> = {
  eni: 'ordinary pod (eni…)',
  vlan: 'branch ENI pod (vlan…)',
  veth: 'IPv6-cluster pod, IPv4 by its veth…',
  ipv6: 'the same pod, over IPv6 (eni…)',
  node: 'the node itself (control)',
};

let titles = 0;

type DemoLab = Lab<'ordinary' | 'branch' | 'six'>;

if (!existsSync(guard)) fail(`${guard} is not there: make build`);
const began = performance.now();
const lab = await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' }, hopLimit: 2 });
try {
  await tell(lab);
} catch (error) {
  if (!(error instanceof Unmet)) throw error;
  console.log(`\nEXPECTATION FAILED: ${error.message}`);
  process.exitCode = 1;
} finally {
  await lab.remove();
}
if (process.exitCode === undefined) console.log(`\nEverything was as said, in ${Math.round(performance.now() - began)} ms. The namespaces are gone.`);

async function tell(lab: DemoLab): Promise<void> {
  title('An EKS node as it starts: IMDSv2, hop limit 2, no rule about IMDS');
  await fates(lab, { reached: clients, blocked: [] });

  title('The two rules that the EKS documentation gives');
  await sh(lab, 'iptables', '-I', 'FORWARD', '1', ...drop.slice(1));
  await sh(lab, 'iptables', '-t', 'mangle', '-A', 'POSTROUTING', '-o', 'vlan+', '-d', imds, '-j', 'DROP');
  await fates(lab, { reached: ['veth', 'ipv6', 'node'], blocked: ['eni', 'vlan'] });
  say('The pod of an IPv6 cluster still gets through: its IPv4 leaves by a veth that is no eni+, and nobody documents it.');

  title('Another agent puts its ACCEPT on top, as Calico does');
  await sh(lab, 'iptables', '-I', 'FORWARD', '1', ...accept.slice(1));
  await fates(lab, { reached: ['eni', 'veth', 'ipv6', 'node'], blocked: ['vlan'] });
  await sh(lab, 'iptables', '-C', ...drop);
  say('The rule is present (-C exits 0), and it stops nothing. Presence is not enforcement.');
  await ask(lab, 'check', { exit: 1, names: [/cali:aBcDeFgHiJkLmNoP/, /169\.254\.169\.254/, /\bopen\b/i] });

  title('imds-guard apply');
  const before = await rulesOf(lab);
  await ask(lab, 'apply', { exit: 0, names: [/\bblocked\b/i] });
  await fates(lab, { reached: ['node'], blocked: ['eni', 'vlan', 'veth', 'ipv6'] });

  title('The other agent puts its ACCEPT on top again');
  await sh(lab, 'iptables', '-I', 'FORWARD', '1', ...accept.slice(1));
  await fates(lab, { reached: ['node'], blocked: ['eni', 'vlan', 'veth', 'ipv6'] });
  await ask(lab, 'check', { exit: 0, names: [/\bblocked\b/i] });

  title('imds-guard remove takes away its own rules and no others');
  await sh(lab, 'iptables', '-D', ...accept);
  await ask(lab, 'remove', { exit: 0, names: [] });
  const after = await rulesOf(lab);
  expect(after === before, `the rules are as they were before apply; before:\n${before}\nafter:\n${after}`);
  say('The rules of both backends and both families, and the nft tables, are what they were before apply.');
  await fates(lab, { reached: ['eni', 'veth', 'ipv6', 'node'], blocked: ['vlan'] });
}

function title(words: string): void {
  titles += 1;
  console.log(`\n${titles}. ${words}`);
}

function say(words: string): void {
  console.log(`   ${words}`);
}

interface Expected {
  readonly reached: readonly Client[];
  readonly blocked: readonly Client[];
}

async function fates(lab: DemoLab, expected: Expected): Promise<void> {
  const answers = await Promise.all(clients.map(async client => [client, await request(lab, client, expected.blocked.includes(client))] as const));
  for (const [client, answer] of answers) say(`${who[client].padEnd(38)}${inWords(answer)}`);
  for (const [client, answer] of answers) {
    const reached = answer.fate === 'reached' && answer.status === 200;
    expect(reached === expected.reached.includes(client), `${who[client]} ${expected.reached.includes(client) ? 'reaches' : 'does not reach'} IMDS`);
  }
}

/** One that is expected to pass gets time, so that a slow machine is not taken for a firewall. */
function request(lab: DemoLab, client: Client, blocked: boolean): Promise<Answer> {
  const options: RequestOptions = { version: 2, family: client === 'ipv6' ? 6 : 4, timeoutMs: blocked ? 700 : 5000 };
  const from = { eni: lab.pods.ordinary, vlan: lab.pods.branch, veth: lab.pods.six, ipv6: lab.pods.six, node: 'node' } as const;
  return lab.request(from[client], options);
}

function inWords(answer: Answer): string {
  switch (answer.fate) {
    case 'reached':
      return `reached IMDS (${answer.status} ${answer.body})`;
    case 'timeout':
      return `blocked (no answer, ${answer.during})`;
    case 'refused':
      return `blocked (${answer.code})`;
  }
}

async function sh(lab: DemoLab, file: string, ...args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await lab.exec(lab.node, file, args);
  say(`# ${[file, ...args].join(' ')}`);
  expect(exitCode === 0, `${file} ${args.join(' ')} exits 0, not ${exitCode}: ${stderr}`);
}

interface ExpectedOutput {
  readonly exit: number;
  readonly names: readonly RegExp[];
}

async function ask(lab: DemoLab, command: string, expected: ExpectedOutput): Promise<void> {
  say(`# imds-guard ${command}`);
  const { exitCode, stdout, stderr } = await lab.exec(lab.node, guard, [command], { timeoutMs: 15_000 });
  for (const line of `${stdout}${stderr}`.split('\n').filter(line => line !== '')) say(`  | ${line}`);
  expect(exitCode === expected.exit, `imds-guard ${command} exits ${expected.exit}, not ${exitCode}`);
  for (const name of expected.names) expect(name.test(stdout), `imds-guard ${command} says ${name}`);
}

function expect(holds: boolean, claim: string): void {
  if (!holds) throw new Unmet(claim);
}

function fail(why: string): never {
  console.error(why);
  process.exit(1);
}
