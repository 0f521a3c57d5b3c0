import type { Family } from 'node-iptables';
import { IMDS, IMDS_PORT } from './addresses.ts';
import { PROBE_PORTS } from './probe/pod-network.ts';
import type { Settings } from './settings.ts';

/** The nftables table that is ours alone. */
export const GUARD_TABLE = 'imds-guard';
/** What a daemon owns where the kernel lets no table outlive its owner; it stands beside the other. */
export const OWNED_GUARD_TABLE = `${GUARD_TABLE}-owned`;

/** Before conntrack and whatever else there is: what a rule in raw drops or untracks is counted all the same. */
export const COUNT_PRIORITY = -350;
/** The first of all forward chains: mangle FORWARD is at -150. */
export const GUARD_PRIORITY = -200;

/** What the table does with a packet to IMDS; `observe` counts it and lets it go. */
export type GuardAct = Settings['action'] | 'observe';
export const guardActOf = ({ mode, action }: Pick<Settings, 'mode' | 'action'>): GuardAct => (mode === 'observe' ? 'observe' : action);

/**
 * `full` tells tokens from plain requests and counts the node's own processes: `@ih` (5.16, nft 1.0.1) and `socket cgroupv2` (5.13).
 * A kernel or an nft that refuses those takes the `simple` form, which counts connections alone.
 */
export type Counting = 'full' | 'simple';
export const COUNTINGS: readonly Counting[] = ['full', 'simple'];

/** A set that rules fill: bounded, each element with a count of its own, and gone after a time. */
export interface CountSet {
  readonly name: string;
  readonly key: readonly ('interfaceName' | 'ipv4Address' | 'ipv6Address' | 'cgroup')[];
  readonly timeoutMs: number;
  readonly counting: Counting;
  /** Without: only the element's time is kept. */
  readonly hasCounter?: boolean;
}
/** Of every set: more than a node has interfaces or cgroups, and more than pods have addresses. */
export const COUNT_SET_SIZE = 4096;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/**
 * A pod can send from any address and fill `clients4`, and for a while nobody new is in it. It cannot choose the name of the host's
 * end of its veth: what is counted by that alone stays whole. `interfaces` keeps when each was first seen, `recent` when last.
 */
export const COUNT_SETS: readonly CountSet[] = [
  { name: 'interfaces', key: ['interfaceName'], timeoutMs: 7 * DAY_MS, counting: 'simple' },
  { name: 'recent', key: ['interfaceName'], timeoutMs: 7 * DAY_MS, counting: 'simple', hasCounter: false },
  { name: 'clients4', key: ['interfaceName', 'ipv4Address'], timeoutMs: DAY_MS, counting: 'simple' },
  { name: 'clients6', key: ['interfaceName', 'ipv6Address'], timeoutMs: DAY_MS, counting: 'simple' },
  { name: 'probes', key: ['interfaceName'], timeoutMs: DAY_MS, counting: 'simple' },
  { name: 'puts', key: ['interfaceName'], timeoutMs: DAY_MS, counting: 'full' },
  { name: 'gets', key: ['interfaceName'], timeoutMs: DAY_MS, counting: 'full' },
  { name: 'processes', key: ['cgroup'], timeoutMs: DAY_MS, counting: 'full' },
];
export const countSets = (counting: Counting): readonly CountSet[] => COUNT_SETS.filter((set) => counting === 'full' || set.counting === 'simple');

/** Since when is counted: the age of its one element, written with the table. No rule fills it, and no node lives for ten years. */
export const SINCE_SET = { name: 'since', key: ['interfaceName'], size: 1, timeoutMs: 3650 * DAY_MS } as const;
export const SINCE_ELEMENT = GUARD_TABLE;
export const setNames = (counting: Counting): readonly string[] => [...countSets(counting), SINCE_SET].map(({ name }) => name);

/** The first four bytes of a request. */
export const REQUESTS = { puts: 'PUT ', gets: 'GET ' } as const;
/** A pod's container is at level 4 (kubepods.slice/kubepods-burstable.slice/…-pod….slice/cri-….scope), a service at 2; 0 is the root. */
export const CGROUP_LEVELS = [4, 3, 2, 1, 0] as const;

/** A chain of the table, its rules in nft's words, without counts. Without a hook: rules of the table lead to it. */
export interface GuardChain {
  readonly name: string;
  readonly hook?: { readonly name: 'prerouting' | 'output' | 'forward'; readonly priority: number };
  readonly rules: readonly string[];
}

/**
 * Counting and dropping are rules apart: a full set ends a rule before its drop (nft_dynset_eval: NFT_BREAK), and pods
 * choose their source addresses. A reset is for TCP; the rest is dropped in either case. A packet that is not for IMDS meets two
 * comparisons of a chain and no more.
 */
export const guardChains = (act: GuardAct, counting: Counting): readonly GuardChain[] => [
  { name: 'count', hook: { name: 'prerouting', priority: COUNT_PRIORITY }, rules: FAMILIES.map((family) => `${toImds(family)} tcp dport ${IMDS_PORT} goto asked`) },
  { name: 'asked', rules: [`${FROM_PROBE} goto probed`, counting === 'full' ? 'tcp flags ack goto carried' : NOT_BEGUN, 'tcp flags syn goto begun'] },
  { name: 'probed', rules: [NOT_BEGUN, `tcp flags syn ${countBy('update', 'probes')}`] },
  { name: 'begun', rules: [countBy('add', 'interfaces'), 'update @recent { iifname }', ...FAMILIES.map((family) => `update @${CLIENT_SET[family]} { iifname . ${NFT_FAMILY[family]} saddr counter }`)] },
  ...(counting === 'full' ? [...carriedChains(), ...nodeChains()] : []),
  ...(act === 'observe' ? [] : [forwardChain(act)]),
];

const FAMILIES = ['ipv4', 'ipv6'] as const;
const NFT_FAMILY = { ipv4: 'ip', ipv6: 'ip6' } as const;
export const CLIENT_SET = { ipv4: 'clients4', ipv6: 'clients6' } as const satisfies Record<Family, string>;

const toImds = (family: Family): string => `${NFT_FAMILY[family]} daddr ${IMDS[family]}`;
const FROM_PROBE = `tcp sport ${PROBE_PORTS.first}-${PROBE_PORTS.last}`;
/** Only the first packet of a connection is without it. */
const NOT_BEGUN = 'tcp flags ack return';
const countBy = (op: 'add' | 'update', set: string): string => `${op} @${set} { iifname counter }`;

const carriedChains = (): GuardChain[] => [
  { name: 'carried', rules: Object.entries(REQUESTS).map(([set, text]) => `@ih,0,32 0x${Buffer.from(text).toString('hex')} ${countBy('update', set)}`) },
];

/** Processes of the node and of hostNetwork pods, each by the deepest cgroup that it has; what is deeper counts with its ancestor. */
const nodeChains = (): GuardChain[] => [
  { name: 'count-node', hook: { name: 'output', priority: COUNT_PRIORITY }, rules: FAMILIES.map((family) => `${toImds(family)} tcp dport ${IMDS_PORT} goto asked-node`) },
  { name: 'asked-node', rules: [NOT_BEGUN, `${FROM_PROBE} return`, ...CGROUP_LEVELS.map((level) => `update @processes { socket cgroupv2 level ${level} counter } return`)] },
];

const forwardChain = (action: Settings['action']): GuardChain => ({
  name: 'forward',
  hook: { name: 'forward', priority: GUARD_PRIORITY },
  rules: FAMILIES.flatMap((family) => [...(action === 'reject' ? [resetRule(family)] : []), dropRule(family)]),
});
const resetRule = (family: Family): string => `${toImds(family)} meta l4proto tcp counter reject with tcp reset`;
const dropRule = (family: Family): string => `${toImds(family)} counter drop`;

/**
 * The table for `nft -f`, in place of the one that is there: nft runs the script as one, and no packet passes between.
 * (`add table` before `delete table`, as one would to need not know, is refused for a table that an owner left: EOPNOTSUPP.)
 * Without tabs: text for a terminal shows them as `\\x09`, and what is printed is what is sent.
 */
export const guardScript = (act: GuardAct, replaces = false, counting: Counting = 'full'): string =>
  [
    ...(replaces ? [`delete table inet ${GUARD_TABLE}`] : []),
    `table inet ${GUARD_TABLE} {`,
    ...countSets(counting).flatMap((set) => setLines(set, COUNT_SET_SIZE, 'dynamic,timeout')),
    ...setLines(SINCE_SET, SINCE_SET.size, 'timeout', `elements = { "${SINCE_ELEMENT}" }`),
    ...guardChains(act, counting).flatMap(chainLines),
    '}',
    '',
  ].join('\n');

/** The drops alone, for what writes before the agent is there. The agent puts the whole table in its place, in one step. */
export const bareGuardScript = (): string => [`table inet ${GUARD_TABLE} {`, ...chainLines(forwardChain('drop')), '}', ''].join('\n');

const NFT_TYPE: Readonly<Record<CountSet['key'][number], string>> = { interfaceName: 'ifname', ipv4Address: 'ipv4_addr', ipv6Address: 'ipv6_addr', cgroup: 'cgroupsv2' };

const setLines = ({ name, key, timeoutMs }: Pick<CountSet, 'name' | 'key' | 'timeoutMs'>, size: number, flags: string, ...more: readonly string[]): string[] => [
  `  set ${name} {`,
  `    type ${key.map((part) => NFT_TYPE[part]).join(' . ')}`,
  `    size ${size}`,
  `    flags ${flags}`,
  `    timeout ${timeoutMs / HOUR_MS}h`,
  ...more.map((line) => `    ${line}`),
  '  }',
];

const chainLines = ({ name, hook, rules }: GuardChain): string[] => [
  `  chain ${name} {`,
  ...(hook ? [`    type filter hook ${hook.name} priority ${hook.priority}; policy accept;`] : []),
  ...rules.map((rule) => `    ${rule}`),
  '  }',
];
