import type { Step } from '../plan.ts';
import type { OwnRule } from './outlook.ts';

/** What a look had to do because something of ours that stood before did not any more, in words for the operator. */
export function lostBySteps(steps: readonly Step[], stood: ReadonlySet<string>): string[] {
  return steps.flatMap((step) =>
    step.do === 'restore' ? step.because.filter((why) => [...stood].some((text) => why.startsWith(`${text} is `))).map((why) => `iptables-${step.backend} ${step.family} ${step.table}: ${why}`) : [],
  );
}

/** The texts of the rules that stand after a look that left nothing to do. */
export const standing = (own: Iterable<OwnRule>): ReadonlySet<string> => new Set([...own].map(({ text }) => text));
