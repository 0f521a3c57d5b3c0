// The built program on the lab's node, and what a test wants to know of the world around it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Step } from '../../agent/core/plan.ts';
import type { Report, TargetReport } from '../../agent/core/report.ts';
import type { Answer, Execed, Lab, Pod, RequestOptions } from '../lab/lab.ts';

export const program = fileURLToPath(new URL('../../dist/imds-guard', import.meta.url));
if (!existsSync(program)) throw new Error(`${program} is not there: make build`);

export const imds = { ipv4: '169.254.169.254/32', ipv6: 'fd00:ec2::254/128' } as const;
export const families = ['ipv4', 'ipv6'] as const;
export const backends = ['nft', 'legacy'] as const;
export type Backend = (typeof backends)[number];
export type Family = (typeof families)[number];

type Node = Pick<Lab, 'exec' | 'node' | 'request'>;

/** What `apply --output json` prints. */
export interface Applied extends Report {
  readonly dryRun: boolean;
  readonly steps: readonly Step[];
  readonly problems: readonly string[];
  readonly left: readonly Step[];
}

/** What `remove --output json` prints. */
export interface Removed {
  readonly dryRun: boolean;
  readonly steps: readonly Step[];
  readonly problems: readonly string[];
  readonly left: readonly Step[];
}

export interface Said<Value> extends Execed {
  readonly value: Value;
}

/** Words that come before the program, to run it as somebody else or among other mounts. */
export type Before = readonly string[];

/** By the rules alone: what packets do, tests ask themselves. test/probe has check with packets. */
export const check = (lab: Node, args: readonly string[] = [], before: Before = []): Promise<Said<Report>> => json(lab, ['check', '--no-probe', ...args], before);
export const apply = (lab: Node, args: readonly string[] = [], before: Before = []): Promise<Said<Applied>> => json(lab, ['apply', ...args], before);
export const remove = (lab: Node, args: readonly string[] = [], before: Before = []): Promise<Said<Removed>> => json(lab, ['remove', ...args], before);

/** As a person would call it. */
export function guard(lab: Node, args: readonly string[], before: Before = []): Promise<Execed> {
  const [file = program, ...rest] = [...before, program, ...args];
  return lab.exec(lab.node, file, rest, { timeoutMs: 60_000 });
}

async function json<Value>(lab: Node, args: readonly string[], before: Before): Promise<Said<Value>> {
  const ran = await guard(lab, [...args, '--output', 'json'], before);
  try {
    return { ...ran, value: JSON.parse(ran.stdout) as Value };
  } catch (cause) {
    throw new Error(`imds-guard ${args.join(' ')}: exit ${ran.exitCode}, no JSON: ${ran.stdout}${ran.stderr}`, { cause });
  }
}

export function targetOf(report: Report, name: string): TargetReport {
  const found = report.targets.find((target) => target.name === name);
  if (found === undefined) throw new Error(`no target ${name}; there are ${report.targets.map((target) => target.name).join(', ')}`);
  return found;
}

/** `{ 'eni+ ipv4': 'blocked', … }` */
export const answersOf = (report: Report): Readonly<Record<string, string>> =>
  Object.fromEntries(report.targets.map(({ name, answer }) => [name, answer]));

/** Runs a program on the node; rejects when it fails. What it printed. */
export async function must(lab: Node, file: string, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.exec(lab.node, file, args);
  if (exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: exit ${exitCode}: ${stderr}`);
  return stdout;
}

export async function nft(lab: Node, script: string): Promise<void> {
  const { exitCode, stderr } = await lab.exec(lab.node, 'nft', ['-f', '-'], { stdin: script });
  if (exitCode !== 0) throw new Error(`nft: exit ${exitCode}: ${stderr}`);
}

/** What `apply` writes with nft, byte for byte. */
export const guardScript = `table inet imds-guard {
  set interfaces {
    type ifname
    size 4096
    flags dynamic,timeout
    timeout 168h
  }
  set recent {
    type ifname
    size 4096
    flags dynamic,timeout
    timeout 168h
  }
  set clients4 {
    type ifname . ipv4_addr
    size 4096
    flags dynamic,timeout
    timeout 24h
  }
  set clients6 {
    type ifname . ipv6_addr
    size 4096
    flags dynamic,timeout
    timeout 24h
  }
  set probes {
    type ifname
    size 4096
    flags dynamic,timeout
    timeout 24h
  }
  set puts {
    type ifname
    size 4096
    flags dynamic,timeout
    timeout 24h
  }
  set gets {
    type ifname
    size 4096
    flags dynamic,timeout
    timeout 24h
  }
  set processes {
    type cgroupsv2
    size 4096
    flags dynamic,timeout
    timeout 24h
  }
  set since {
    type ifname
    size 1
    flags timeout
    timeout 87600h
    elements = { "imds-guard" }
  }
  chain count {
    type filter hook prerouting priority -350; policy accept;
    ip daddr 169.254.169.254 tcp dport 80 goto asked
    ip6 daddr fd00:ec2::254 tcp dport 80 goto asked
  }
  chain asked {
    tcp sport 64512-65023 goto probed
    tcp flags ack goto carried
    tcp flags syn goto begun
  }
  chain probed {
    tcp flags ack return
    tcp flags syn update @probes { iifname counter }
  }
  chain begun {
    add @interfaces { iifname counter }
    update @recent { iifname }
    update @clients4 { iifname . ip saddr counter }
    update @clients6 { iifname . ip6 saddr counter }
  }
  chain carried {
    @ih,0,32 0x50555420 update @puts { iifname counter }
    @ih,0,32 0x47455420 update @gets { iifname counter }
  }
  chain count-node {
    type filter hook output priority -350; policy accept;
    ip daddr 169.254.169.254 tcp dport 80 goto asked-node
    ip6 daddr fd00:ec2::254 tcp dport 80 goto asked-node
  }
  chain asked-node {
    tcp flags ack return
    tcp sport 64512-65023 return
    update @processes { socket cgroupv2 level 4 counter } return
    update @processes { socket cgroupv2 level 3 counter } return
    update @processes { socket cgroupv2 level 2 counter } return
    update @processes { socket cgroupv2 level 1 counter } return
    update @processes { socket cgroupv2 level 0 counter } return
  }
  chain forward {
    type filter hook forward priority -200; policy accept;
    ip daddr 169.254.169.254 counter drop
    ip6 daddr fd00:ec2::254 counter drop
  }
}
`;

/** The backends and families that were written to with iptables, and the scripts that nft ran. */
export const restoresOf = (steps: readonly Step[]): readonly { readonly family: Family; readonly backend: Backend }[] =>
  steps.flatMap((step) => (step.do === 'restore' ? [{ family: step.family, backend: step.backend }] : []));
export const scriptsOf = (steps: readonly Step[]): readonly string[] => steps.flatMap((step) => (step.do === 'nft' ? [step.script] : []));

export const programOf = (family: Family, backend: Backend): string => `${family === 'ipv4' ? 'iptables' : 'ip6tables'}-${backend}`;

/** A line of iptables as an administrator types it: `iptables-legacy -t mangle -A …`. */
export const iptables = (lab: Node, backend: Backend, line: string, family: Family = 'ipv4'): Promise<string> => must(lab, programOf(family, backend), ...line.split(' '));

export async function restore(lab: Node, backend: Backend, lines: readonly string[], family: Family = 'ipv4'): Promise<void> {
  const { exitCode, stderr } = await lab.exec(lab.node, `${programOf(family, backend)}-restore`, ['--noflush'], { stdin: `${lines.join('\n')}\n` });
  if (exitCode !== 0) throw new Error(`restore: exit ${exitCode}: ${stderr}`);
}

/** One table's rules as iptables-save prints them, without its date. */
export async function saved(lab: Node, backend: Backend, family: Family = 'ipv4', table?: string): Promise<string> {
  const text = await must(lab, `${programOf(family, backend)}-save`, ...(table === undefined ? [] : ['-t', table]));
  return bare(text);
}

/** Dates and the counters of chains go; they are no rules. Order of tables is not anybody's wish either. */
const bare = (text: string): string =>
  text
    .replaceAll(/^# (Generated|Completed).*\n/gm, '')
    .replaceAll(/\[\d+:\d+\]$/gm, '[0:0]')
    .split(/(?<=^COMMIT\n)/m)
    .sort()
    .join('');

/**
 * Every rule of the node, byte for byte: both backends, both families, every nft table. With handles, so that a rule which
 * was deleted and written again is another one. Without what packets leave behind: counts, and who asked for IMDS.
 */
export async function world(lab: Node): Promise<string> {
  const saves = backends.flatMap((backend) => families.map(async (family) => `${backend} ${family}\n${await saved(lab, backend, family)}`));
  const [listed, ...parts] = await Promise.all([must(lab, 'nft', '-a', 'list', 'ruleset'), ...saves]);
  return [...parts, untouched(listed)].join('');
}

/** The guard table as it was before any packet came. */
export const guardTable = async (lab: Node): Promise<string> => untouched(await must(lab, 'nft', 'list', 'table', 'inet', 'imds-guard'));

const untouched = (listed: string): string =>
  listed.replaceAll(/(\tset [a-z46]+ \{[^{}]*?timeout \w+\n)\t\telements = \{[^{}]*\}\n/g, '$1').replaceAll(/packets \d+ bytes \d+/g, 'packets 0 bytes 0');

/** The same without handles, and without the empty tables and kernel chains that iptables-nft makes when it writes. */
export async function rules(lab: Node): Promise<string> {
  const parts: string[] = [];
  for (const backend of backends) {
    for (const family of families) {
      let table = '';
      for (const line of (await saved(lab, backend, family)).split('\n')) {
        if (line.startsWith('*')) table = line;
        if (line.startsWith('-A') || line.startsWith('#') || (line.startsWith(':') && !line.includes(' ACCEPT ['))) parts.push(`${backend} ${family} ${table} ${line}`);
      }
    }
  }
  const tables = (await must(lab, 'nft', 'list', 'tables')).split('\n').filter((line) => !/^table ip6? (raw|mangle|nat|filter|security)$/.test(line) && line !== '');
  for (const table of tables) parts.push(untouched(await must(lab, 'nft', 'list', ...table.split(' '))));
  return parts.join('\n');
}

/** `web 4 v1`: who asks, over which family, with which version of IMDS. */
export type Fates = Readonly<Record<string, 'reached' | 'timeout' | 'refused'>>;

/** Everybody asks at once, over each family they have, with and without a token. Silence is cheap to wait for. */
export async function fates(lab: Node, who: readonly (Pod | 'node')[], timeoutMs = 500): Promise<Fates> {
  const asks = who.flatMap((from) => {
    const over = from === 'node' || from.address6 === '' ? ([4] as const) : ([4, 6] as const);
    return over.flatMap((family) => ([1, 2] as const).map((version) => ({ from, family, version })));
  });
  const answered = await Promise.all(
    asks.map(async ({ from, family, version }) => {
      const answer = await lab.request(from, { family, version, timeoutMs: from === 'node' ? 5000 : timeoutMs });
      return [`${from === 'node' ? from : from.name} ${family} v${version}`, fateOf(answer)] as const;
    }),
  );
  return Object.fromEntries(answered);
}

const fateOf = (answer: Answer): Fates[string] => (answer.fate === 'reached' && answer.status !== 200 ? 'refused' : answer.fate);

/** What `fates` should be where every pod has the same one. */
export function expected(who: readonly Pod[], fate: Fates[string], node: Fates[string] = 'reached'): Fates {
  const names = who.flatMap((pod) => (pod.address6 === '' ? [4] : [4, 6]).flatMap((family) => [`${pod.name} ${family} v1`, `${pod.name} ${family} v2`]));
  return { ...Object.fromEntries(names.map((name) => [name, fate])), 'node 4 v1': node, 'node 4 v2': node };
}

/** One request that is expected to get through: it gets time, so that a slow machine is not taken for a firewall. */
export const passes = async (lab: Node, from: Pod | 'node', options: RequestOptions = {}): Promise<boolean> => {
  const answer = await lab.request(from, { timeoutMs: 5000, ...options });
  return answer.fate === 'reached' && answer.status === 200;
};

/** One that is expected not to. */
export const dies = async (lab: Node, from: Pod, options: RequestOptions = {}): Promise<boolean> =>
  (await lab.request(from, { timeoutMs: 400, ...options })).fate !== 'reached';

/** A foreign firewall of many kinds, as nodes really have it, none of which is about IMDS. */
export const foreign = (family: Family): Readonly<Record<'raw' | 'mangle' | 'nat' | 'filter', readonly string[]>> => {
  const [pod, service] = family === 'ipv4' ? ['10.0.1.101/32', '172.20.0.1/32'] : ['2001:db8:0:2::101/128', 'fd12::1/128'];
  return {
    raw: ['*raw', ':cali-PREROUTING - [0:0]', '-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING', '-A cali-PREROUTING -m comment --comment "cali:XFX5xbM8B9qR10JG" -j MARK --set-xmark 0x0/0xf0000', 'COMMIT'],
    mangle: [
      '*mangle',
      ':KUBE-IPTABLES-HINT - [0:0]',
      ':KUBE-KUBELET-CANARY - [0:0]',
      ':operator - [0:0]',
      '-A PREROUTING -i eth+ -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80',
      '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu',
      '-A POSTROUTING -o vlan+ -m comment --comment "imds-guard was here, said somebody" -j operator',
      'COMMIT',
    ],
    nat: ['*nat', ':KUBE-SERVICES - [0:0]', ':DOCKER - [0:0]', '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES', '-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER', `-A KUBE-SERVICES -d ${service} -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j ACCEPT`, 'COMMIT'],
    filter: [
      '*filter',
      ':cali-FORWARD - [0:0]',
      ':KUBE-FORWARD - [0:0]',
      ':DOCKER-USER - [0:0]',
      ":it's - [0:0]",
      '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
      '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
      '-A FORWARD -j DOCKER-USER',
      `-A FORWARD -s ${pod} -m comment --comment "a \\"quoted\\" \\\\ it's -j DROP" -j ACCEPT`,
      '-A FORWARD -m comment --comment "169.254.169.254 imds-guard" -i eni+ -p udp -j DROP',
      '-A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000',
      '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
      '-A DOCKER-USER -j RETURN',
      "-A it's -j RETURN",
      'COMMIT',
    ],
  };
};
