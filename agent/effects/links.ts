import { hasName, nameSet, namePattern, patternCovers } from 'node-iptables';
import type { FoundPattern } from '../core/observed.ts';
import type { Print } from './observe-node.ts';
import { readText } from './read-text.ts';

/** The links of this node, and what they tell about pods. */
export interface Links {
  readonly all: readonly Link[];
  /** Patterns of links that lead into other namespaces. */
  readonly patterns: readonly FoundPattern[];
  readonly assumed: readonly string[];
  /** Pods that are bridged to the network outside, and so need not be routed. */
  readonly bypasses: readonly string[];
  /** BPF and other programs on links of the given patterns. */
  readonly programsOn: (patterns: readonly string[]) => Promise<LinkPrograms>;
}
export interface LinkPrograms {
  readonly bypasses: readonly string[];
  /** A program may set the mark that a packet starts with. */
  readonly mayMark: boolean;
  readonly assumed: readonly string[];
}
/** What `ip -j -d link` says of a link, as far as it is used. */
export interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly link_index?: number;
  readonly link_netnsid?: number;
  readonly master?: string;
  readonly link_type?: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly xdp?: unknown;
}

export async function readLinks(print: Print, procNet: string): Promise<Links> {
  const text = await print('ip', ['-j', '-d', 'link', 'show']);
  const uplinks = uplinkNames(procNet);
  const listed = text === undefined ? undefined : parseLinks(text);
  const all = listed ?? [];
  return {
    all,
    patterns: all.filter((link) => leadsToPod(link) && !uplinks.has(link.ifname)).map((link) => ({ pattern: patternOf(link.ifname), from: `${link.ifname} on this node` })).filter(firstOfPattern),
    assumed: listed ? [] : ['pod interfaces, and programs on them, were not looked for: ip is not installed or cannot list links as JSON; packets may start with any mark'],
    bypasses: bridgedOut(all, uplinks),
    programsOn: async (patterns) => (listed ? programsOn(print, listed, patterns) : { bypasses: [], mayMark: true, assumed: [] }),
  };
}

/** Interfaces that a default route or a route to IMDS itself leaves by: never a pod's, whatever their kind. */
export function uplinkNames(procNet: string): Set<string> {
  // ens5  00000000  …: name first, destination in little-endian hex. IPv6: destination, its length, …, name last.
  const byFour = readText(`${procNet}/route`).split('\n').map((line) => line.split('\t')).filter(([, to]) => to === '00000000' || to === 'FEA9FEA9').map(([name]) => name!);
  const bySix = readText(`${procNet}/ipv6_route`).split('\n').map((line) => line.trim().split(/\s+/)).filter(([to, length]) => (length === '00' && to === '0'.repeat(32)) || to === IMDS_IPV6).map((words) => words.at(-1)!);
  return new Set([...byFour, ...bySix]);
}
const IMDS_IPV6 = 'fd000ec2000000000000000000000254';

/** A list of links; undefined where the text is something else. */
export const parseLinks = (text: string): Link[] | undefined =>
  objects(text)?.filter((one): one is Link & Record<string, unknown> => 'ifname' in one && 'ifindex' in one);

/** A veth whose other end is in another namespace and that is no port of a bridge: a pod's, routed by the node. */
const leadsToPod = (link: Link): boolean => link.linkinfo?.info_kind === 'veth' && link.link_netnsid !== undefined && link.master === undefined;

/**
 * A bridge hands frames from port to port, past every hook of IP (unless br_netfilter is told otherwise): measured, a pod
 * on a bridge with the uplink gets 200. A bridge of pods alone (docker0, cni0) leads nowhere by itself.
 */
function bridgedOut(all: readonly Link[], uplinks: ReadonlySet<string>): string[] {
  const leadsOut = (bridge: string): boolean =>
    uplinks.has(bridge) || all.some((link) => link.master === bridge && (uplinks.has(link.ifname) || CARDS.has(link.linkinfo?.info_kind ?? 'card')));
  return all
    .filter((link) => link.linkinfo?.info_kind === 'veth' && link.link_netnsid !== undefined && link.master !== undefined && leadsOut(link.master))
    .map((link) => `${link.ifname} is a port of the bridge ${link.master}, which leads out of the node: its packets need not be routed`);
}
const CARDS: ReadonlySet<string> = new Set(['card', 'bond', 'team', 'vlan']);

/** Prefixes that CNI plugins give to host interfaces; the VPC CNI's IPv4 egress makes `veth` and 8 hex digits. */
const CNI_PREFIXES = ['eni', 'vlan', 'veth', 'cali', 'lxc', 'azv', 'gke', 'cni', 'weave', 'flannel'] as const;

export function patternOf(name: string): string {
  const prefix = CNI_PREFIXES.find((known) => name.startsWith(known));
  return prefix ? `${prefix}+` : name;
}

const firstOfPattern = ({ pattern }: FoundPattern, at: number, all: readonly FoundPattern[]): boolean =>
  all.findIndex((other) => other.pattern === pattern) === at;

/**
 * Programs of the VPC CNI's network policy agent: they answer BPF_OK or BPF_DROP and never redirect
 * (aws-network-policy-agent, pkg/ebpf/c/tc.v4egress.bpf.c).
 */
const NEVER_REDIRECT = /^handle_(ingress|egress)$/;

async function programsOn(print: Print, links: readonly Link[], patterns: readonly string[]): Promise<LinkPrograms> {
  const ofPods = links.filter(({ ifname }) => patterns.some((pattern) => patternCovers(namePattern(pattern), nameSet(ifname)) && hasName(nameSet(pattern), ifname)));
  const xdp = ofPods.filter((link) => link.xdp !== undefined).map((link) => `an XDP program on ${link.ifname}`);
  if (ofPods.length === 0) return { bypasses: xdp, mayMark: false, assumed: [] };
  const text = await print('tc', ['-j', 'qdisc', 'show']);
  const qdiscs = text === undefined ? undefined : objects(text);
  if (!qdiscs) {
    const why = text === undefined ? 'tc is not installed or did not answer' : 'tc did not answer in JSON';
    return { bypasses: xdp, mayMark: true, assumed: [`programs on pod interfaces were not looked for: ${why}; packets may start with any mark`] };
  }
  const names = new Set(ofPods.map((link) => link.ifname));
  const hooked = qdiscs.filter((qdisc) => (qdisc['kind'] === 'clsact' || qdisc['kind'] === 'ingress') && names.has(String(qdisc['dev']))).map((qdisc) => String(qdisc['dev']));
  if (hooked.length === 0) return { bypasses: xdp, mayMark: xdp.length > 0, assumed: [] };
  // One process for all interfaces: a node has up to some hundred.
  const batch = hooked.map((name) => `filter show dev ${name} ingress\n`).join('');
  const answers = ((await print('tc', ['-j', '-batch', '-'], batch)) ?? '').split('\n').filter((line) => line.trim() !== '');
  const found = hooked.flatMap((name, at) => filtersOf(name, answers[at]));
  return { bypasses: [...xdp, ...found.filter(({ known }) => !known).map(({ text }) => text)], mayMark: found.length > 0 || xdp.length > 0, assumed: [] };
}

function filtersOf(name: string, answer: string | undefined): { text: string; known: boolean }[] {
  const filters = answer === undefined ? undefined : objects(answer);
  if (!filters) return [{ text: `filters on ${name} that tc does not show`, known: false }];
  return filters
    .filter((filter) => 'options' in filter)
    .map((filter) => {
      const options = (filter['options'] ?? {}) as Record<string, unknown>;
      const program = String(options['bpf_name'] ?? '');
      return { text: `a ${String(filter['kind'])} filter ${program} on ${name} may redirect packets`.replace('  ', ' '), known: filter['kind'] === 'bpf' && NEVER_REDIRECT.test(program) };
    });
}

/** A JSON list of objects; undefined where the text is something else, which is not the same as an empty list. */
function objects(text: string): Record<string, unknown>[] | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return Array.isArray(parsed) ? parsed.filter((one): one is Record<string, unknown> => typeof one === 'object' && one !== null) : undefined;
  } catch {
    return undefined;
  }
}
