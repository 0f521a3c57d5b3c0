import type { Step } from '../plan.ts';
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

/** The texts of the rules that stand, by what a look found still to be done. */
export function standing(own: Iterable<OwnRule>, left: readonly Step[]): ReadonlySet<string> {
  const missing = left.flatMap(({ because }) => because);
  return new Set([...own].map(({ text }) => text).filter((text) => !missing.includes(`${text} is missing`)));
}
