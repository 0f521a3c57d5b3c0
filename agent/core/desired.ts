import { type Family, patternCovers, namePattern } from 'node-iptables';
import { IMDS_BLOCK } from './addresses.ts';
import { type GuardAct, guardActOf } from './guard-table.ts';
import type { FoundPattern } from './observed.ts';
import type { Settings } from './settings.ts';

/** A rule that should be there. */
export interface DesiredRule {
  readonly family: Family;
  readonly table: 'filter' | 'mangle';
  readonly chain: string;
  /** Where it goes when it is missing: `first` in the chain, or `last`. */
  readonly position: 'first' | 'last';
  /** In canonical form, as iptables-save prints it. */
  readonly text: string;
  readonly layer: 'documented' | 'out-of-reach';
}

/** A chain of our own, whose whole content is ours. */
export interface DesiredChain {
  readonly family: Family;
  readonly table: 'filter' | 'mangle';
  readonly name: string;
  readonly rules: readonly string[];
}

export interface Desired {
  /** `observe`: no rule of ours is to be there, but for the guard table. */
  readonly mode: Settings['mode'];
  readonly rules: readonly DesiredRule[];
  readonly chains: readonly DesiredChain[];
  /** The table `inet imds-guard`: what it does with a packet, or that there is to be none, or that a daemon keeps it. */
  readonly guard: GuardAct | 'none' | 'watched';
}

/** The name of our chains; the EKS node monitoring agent's allow-list can name `filter/IMDS-GUARD`. */
export const OWN_CHAIN = 'IMDS-GUARD';
/** The comment on every rule of ours that is not a documented one word for word. Never begins with `cali:`. */
export const OWN_TAG = 'imds-guard';

/** The two patterns for which AWS documents a rule; those rules carry no comment, so that `iptables -C` finds them. */
const DOCUMENTED = { interfaces: 'eni+', branchInterfaces: 'vlan+' } as const;

/**
 * Two layers of rules (DESIGN.md, "Three layers"). The documented one is what auditors look for: filter FORWARD for pod
 * interfaces, mangle POSTROUTING for branch interfaces. The one out of reach holds whoever writes above the first:
 * mangle FORWARD, where neither Felix nor kube-proxy write, with no interface, so that it covers every pod kind.
 */
export function desired(settings: Settings, found: readonly FoundPattern[], families: readonly Family[]): Desired {
  const guard = settings.guard === 'none' || settings.guard === 'watched' ? settings.guard : guardActOf(settings);
  if (settings.mode === 'observe') return { mode: settings.mode, rules: [], chains: [], guard };
  const pods = podPatterns(settings, found);
  const rules = families.flatMap((family) => [
    ...pods.map((pattern) => podRule(family, pattern, settings.layout)),
    ...settings.branchInterfaces.map((pattern) => branchRule(family, pattern, settings.layout)),
    outOfReach(family, settings.layout),
  ]);
  const chains = settings.layout === 'chain' ? families.flatMap(ownChains) : [];
  return { mode: settings.mode, rules, chains, guard };
}

export function podPatterns(settings: Settings, found: readonly FoundPattern[]): string[] {
  const patterns = [...settings.interfaces];
  const known = [...settings.interfaces, ...settings.branchInterfaces];
  for (const { pattern } of settings.discover ? found : []) {
    if (!known.some((one) => patternCovers(namePattern(one), namePattern(pattern)))) {
      patterns.push(pattern);
      known.push(pattern);
    }
  }
  return patterns;
}

/** `-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP` (EKS security best practices, "restrict access to IMDS"). */
const podRule = (family: Family, pattern: string, layout: Settings['layout']): DesiredRule => ({
  family,
  table: 'filter',
  chain: 'FORWARD',
  position: 'first',
  text: `-A FORWARD -d ${IMDS_BLOCK[family]} -i ${pattern}${tag(pattern === DOCUMENTED.interfaces && layout === 'documented')} ${verdictOf(layout)}`,
  layer: 'documented',
});

/** `-A POSTROUTING -d 169.254.169.254/32 -o vlan+ -j DROP` (the same page, pods with security groups). */
const branchRule = (family: Family, pattern: string, layout: Settings['layout']): DesiredRule => ({
  family,
  table: 'mangle',
  chain: 'POSTROUTING',
  position: 'last',
  text: `-A POSTROUTING -d ${IMDS_BLOCK[family]} -o ${pattern}${tag(pattern === DOCUMENTED.branchInterfaces && layout === 'documented')} ${verdictOf(layout)}`,
  layer: 'documented',
});

const outOfReach = (family: Family, layout: Settings['layout']): DesiredRule => ({
  family,
  table: 'mangle',
  chain: 'FORWARD',
  position: 'last',
  text: `-A FORWARD -d ${IMDS_BLOCK[family]}${tag(false)} ${verdictOf(layout)}`,
  layer: 'out-of-reach',
});

const ownChains = (family: Family): DesiredChain[] =>
  (['filter', 'mangle'] as const).map((table) => ({
    family,
    table,
    name: OWN_CHAIN,
    rules: [`-A ${OWN_CHAIN} -d ${IMDS_BLOCK[family]}${tag(false)} -j DROP`],
  }));

const tag = (bare: boolean): string => (bare ? '' : ` -m comment --comment ${OWN_TAG}`);
const verdictOf = (layout: Settings['layout']): string => (layout === 'chain' ? `-j ${OWN_CHAIN}` : '-j DROP');
