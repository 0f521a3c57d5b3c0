import type { Backend, Family, NftFamily } from 'node-iptables';
import type { Destinations } from 'node-iptables/netlink';
import { IMDS_BYTES } from '../addresses.ts';
import { type Desired, desired } from '../desired.ts';
import type { FoundPattern } from '../observed.ts';
import type { Report } from '../report.ts';
import type { Settings } from '../settings.ts';

/** A rule of ours as iptables-nft keeps it. */
export interface OwnRule {
  readonly family: NftFamily;
  readonly table: 'filter' | 'mangle';
  readonly chain: string;
  readonly position: 'first' | 'last';
  readonly text: string;
  readonly layer: 'documented' | 'out-of-reach' | 'own-chain';
}

/** What changes are looked for: made anew after each look at the node. */
export interface Outlook {
  /** By `ownKey`. */
  readonly own: ReadonlyMap<string, OwnRule>;
  /** Whether ours are the ones in nf_tables. What stands there while we write to iptables-legacy is somebody else's. */
  readonly ownInNft: boolean;
  /**
   * Chains that a packet to IMDS may enter, by `chainKey`. Only where the last look proved `blocked`: then a change elsewhere
   * cannot change that. Undefined: every chain may matter.
   */
  readonly path: ReadonlySet<string> | undefined;
  /** Tables with a chain on the path, by `tableKey`. */
  readonly pathTables: ReadonlySet<string> | undefined;
  /** Chains in which a rule of ours is to be the first, by `chainKey`. */
  readonly contested: ReadonlySet<string>;
  /** Patterns of pod interfaces. */
  readonly patterns: readonly string[];
}

export const IMDS_DESTINATIONS: Destinations = { ipv4: bytes('ipv4'), ipv6: bytes('ipv6') };

export const ownKey = (family: NftFamily, table: string, text: string): string => `${family} ${table} ${text}`;
export const chainKey = (family: NftFamily, table: string, chain: string): string => `${family} ${table} ${chain}`;
export const tableKey = (family: NftFamily, table: string): string => `${family} ${table}`;

/** Before the first look everything may matter, and nothing is known to be ours. */
export function outlookOf(settings: Settings, report: Report | undefined, backend?: Backend): Outlook {
  const found = report ? foundPatterns(report) : [];
  const wanted = desired(settings, found, FAMILIES);
  const path = report?.answer === 'blocked' && report.path ? report.path.filter(({ backend }) => backend !== 'legacy') : undefined;
  const own = ownRulesOf(wanted);
  return {
    own,
    ownInNft: backend === 'nft',
    contested: new Set((backend === 'nft' ? [...own.values()] : []).filter(({ position }) => position === 'first').map(({ family, table, chain }) => chainKey(family, table, chain))),
    path: path && new Set(path.map(({ family, table, chain }) => chainKey(nftFamily(family), table, chain))),
    pathTables: path && new Set(path.map(({ family, table }) => tableKey(nftFamily(family), table))),
    patterns: [...settings.interfaces, ...settings.branchInterfaces, ...found.map(({ pattern }) => pattern)],
  };
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const NFT_FAMILY: Readonly<Record<Family, NftFamily>> = { ipv4: 'ip', ipv6: 'ip6' };
const nftFamily = (family: string): NftFamily => NFT_FAMILY[family as Family] ?? (family as NftFamily);

/** Patterns that the look found on the node: the report's targets have them. */
const foundPatterns = (report: Report): FoundPattern[] =>
  report.targets.filter(({ from }) => from !== 'configuration').map((target) => ({ pattern: target.interface, from: target.from }));

function ownRulesOf({ rules, chains }: Desired): Map<string, OwnRule> {
  const own = [
    ...rules.map(({ family, table, chain, position, text, layer }): OwnRule => ({ family: NFT_FAMILY[family], table, chain, position, text, layer })),
    ...chains.flatMap(({ family, table, name, rules: texts }) => texts.map((text): OwnRule => ({ family: NFT_FAMILY[family], table, chain: name, position: 'last', text, layer: 'own-chain' }))),
  ];
  return new Map(own.map((rule) => [ownKey(rule.family, rule.table, rule.text), rule]));
}

function bytes(family: Family): Buffer {
  return Buffer.from(IMDS_BYTES[family]);
}
