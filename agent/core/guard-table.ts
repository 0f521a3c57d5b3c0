import type { Family } from 'node-iptables';
import { IMDS, IMDS_PORT } from './addresses.ts';
import type { Settings } from './settings.ts';

/** The nftables table that is ours alone. */
export const GUARD_TABLE = 'imds-guard';
/** What a daemon owns where the kernel lets no table outlive its owner; it stands beside the other. */
export const OWNED_GUARD_TABLE = `${GUARD_TABLE}-owned`;

/** Before conntrack and whatever else there is: what a rule in raw drops or untracks is counted all the same. */
export const COUNT_PRIORITY = -350;
/** The first of all forward chains: mangle FORWARD is at -150. */
export const GUARD_PRIORITY = -200;

/** Who asked for IMDS, by interface and address. */
export interface ClientSet {
  readonly name: string;
  readonly size: number;
  readonly timeoutMs: number;
}
const HOUR_MS = 3_600_000;
export const CLIENT_SETS: Readonly<Record<Family, ClientSet>> = {
  ipv4: { name: 'clients4', size: 1024, timeoutMs: HOUR_MS },
  ipv6: { name: 'clients6', size: 1024, timeoutMs: HOUR_MS },
};

/** A chain of the table, its rules in nft's words, without counts. */
export interface GuardChain {
  readonly name: 'count' | 'forward';
  readonly hook: 'prerouting' | 'forward';
  readonly priority: number;
  readonly rules: readonly string[];
}

/**
 * Counting and dropping are rules apart: a full set ends a rule before its drop (nft_dynset_eval: NFT_BREAK), and pods
 * choose their source addresses. A reset is for TCP; the rest is dropped in either case.
 */
export const guardChains = (action: Settings['action']): readonly GuardChain[] => [
  { name: 'count', hook: 'prerouting', priority: COUNT_PRIORITY, rules: FAMILIES.map(countRule) },
  { name: 'forward', hook: 'forward', priority: GUARD_PRIORITY, rules: FAMILIES.flatMap((family) => [...(action === 'reject' ? [resetRule(family)] : []), dropRule(family)]) },
];

const FAMILIES = ['ipv4', 'ipv6'] as const;
const NFT_FAMILY = { ipv4: 'ip', ipv6: 'ip6' } as const;
const toImds = (family: Family): string => `${NFT_FAMILY[family]} daddr ${IMDS[family]}`;

const countRule = (family: Family): string => `${toImds(family)} tcp dport ${IMDS_PORT} update @${CLIENT_SETS[family].name} { iifname . ${NFT_FAMILY[family]} saddr counter }`;
const resetRule = (family: Family): string => `${toImds(family)} meta l4proto tcp counter reject with tcp reset`;
const dropRule = (family: Family): string => `${toImds(family)} counter drop`;

/**
 * The table for `nft -f`, in place of the one that is there: nft runs the script as one, and no packet passes between.
 * (`add table` before `delete table`, as one would to need not know, is refused for a table that an owner left: EOPNOTSUPP.)
 * Without tabs: text for a terminal shows them as `\\x09`, and what is printed is what is sent.
 */
export const guardScript = (action: Settings['action'], replaces = false): string =>
  [
    ...(replaces ? [`delete table inet ${GUARD_TABLE}`] : []),
    `table inet ${GUARD_TABLE} {`,
    ...FAMILIES.flatMap((family) => setLines(family)),
    ...guardChains(action).flatMap(chainLines),
    '}',
    '',
  ].join('\n');

function setLines(family: Family): string[] {
  const { name, size, timeoutMs } = CLIENT_SETS[family];
  return [
    `  set ${name} {`,
    `    type ifname . ${family}_addr`,
    `    size ${size}`,
    '    flags dynamic,timeout',
    `    timeout ${timeoutMs / HOUR_MS}h`,
    '  }',
  ];
}

const chainLines = ({ name, hook, priority, rules }: GuardChain): string[] => [
  `  chain ${name} {`,
  `    type filter hook ${hook} priority ${priority}; policy accept;`,
  ...rules.map((rule) => `    ${rule}`),
  '  }',
];
