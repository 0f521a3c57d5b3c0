import type { Step } from '../plan.ts';
import type { OwnRule } from './outlook.ts';

/** What a look had to do because something of ours that stood before did not any more, in words for the operator. */
export function lostBySteps(steps: readonly Step[], stood: ReadonlySet<string>): string[] {
  return steps.flatMap((step) =>
    step.do === 'restore' ? step.because.filter((why) => [...stood].some((text) => why.startsWith(`${text} is `))).map((why) => `iptables-${step.backend} ${step.family} ${step.table}: ${why}`) : [],
  );
}

/** The texts of the rules that stand, by what a look found still to be done. */
export function standing(own: Iterable<OwnRule>, left: readonly Step[]): ReadonlySet<string> {
  const missing = left.flatMap(({ because }) => because);
  return new Set([...own].map(({ text }) => text).filter((text) => !missing.includes(`${text} is missing`)));
}
