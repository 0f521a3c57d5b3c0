import type { Step } from './plan.ts';
import { visible } from './visible.ts';

/** What was done, word for word: what is printed is what was sent. */
export function stepsText(steps: readonly Step[], problems: readonly string[], dryRun: boolean, nothing: string): string {
  const verb = dryRun ? 'would run' : 'ran';
  const lines = steps.flatMap((step) => [`${verb} ${programOf(step)}: ${step.because.join('; ')}`, ...inputOf(step).map((line) => `    ${line}`)]);
  if (steps.length === 0) lines.push(nothing);
  for (const problem of problems) lines.push(`failed: ${problem}`);
  return `${lines.map(visible).join('\n')}\n`;
}

const programOf = (step: Step): string =>
  step.do === 'nft' ? 'nft -f -' : `${step.family === 'ipv4' ? 'iptables' : 'ip6tables'}-${step.backend}-restore --noflush`;

const inputOf = (step: Step): string[] => (step.do === 'nft' ? step.script : step.payload).trimEnd().split('\n');
