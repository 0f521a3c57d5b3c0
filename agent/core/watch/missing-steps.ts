import type { Step } from '../plan.ts';
import type { Looked } from './look.ts';
import type { OwnRule } from './outlook.ts';

/**
 * What a look had to do because something of ours that stood before did not any more, in words for the operator.
 *
 * @param told whether events tell of every rule that nf_tables loses: then a look that finds one missing met it half-way
 */
export function lostBySteps(steps: readonly Step[], stood: ReadonlySet<string>, told: boolean): string[] {
  return steps.flatMap((step) =>
    step.do === 'restore' ? step.because.filter((why) => [...stood].some((text) => why.startsWith(`${text} is `)) && !(told && step.backend === 'nft' && why.endsWith(' is missing'))).map((why) => `iptables-${step.backend} ${step.family} ${step.table}: ${why}`) : [],
  );
}

/** The texts of the rules that stand, by what a look read and found still to be done. What it could not read does not stand. */
export function standing(own: Iterable<OwnRule>, { left, unread }: Pick<Looked, 'left' | 'unread'>): ReadonlySet<string> {
  const missing = new Set(left.flatMap(({ because }) => because));
  const stands = ({ family, table, chain, text, layer }: OwnRule): boolean =>
    !unread.includes(family === 'ip' ? 'ipv4' : 'ipv6') &&
    !missing.has(`${text} is missing`) &&
    (layer !== 'own-chain' || !(missing.has(`${table} ${chain} is missing`) || missing.has(`${table} ${chain} holds other rules than ours`)));
  return new Set([...own].filter(stands).map(({ text }) => text));
}
