import type { Explanation } from './explain.ts';
import { isOurs } from './explain.ts';
import type { Answer } from './reasons.ts';
import type { Tone } from './svg-style.ts';
import { chainText, type End, endOf, shadowing, whereText } from './svg-rows.ts';

const TONES = { blocked: 'green', open: 'red', unknown: 'amber' } as const satisfies Readonly<Record<Answer, Tone>>;
export const answerTone = (answer: Answer): Tone => TONES[answer];

/** What the answer says of all packets, beside the one that is drawn. */
export const answerText = (answer: Answer): string => SENTENCES[answer];
const SENTENCES: Readonly<Record<Answer, string>> = {
  blocked: 'Every packet from these pods to IMDS is dropped. One of them:',
  open: 'A packet from these pods gets to IMDS. This one:',
  unknown: 'Whether packets from these pods get to IMDS cannot be said. A likely one:',
};

/** What happened to the packet and which rule did it, in one sentence without its full stop. */
export function summaryOf(explanation: Explanation): string {
  const end = endOf(explanation);
  const stop = shadowing(explanation);
  const accept = stop?.rules.at(-1);
  if (end) return `${endText(end, explanation.doubtful)}${stop && accept && stop.shadowed.some(({ ours }) => ours) ? `; but ${whereText(accept)} keeps it from another rule of ours` : ''}`;
  if (!stop || !accept) return explanation.doubtful ? 'No rule is sure to drop this packet' : 'No rule drops this packet';
  const first = stop.shadowed.find(({ ours }) => ours) ?? stop.shadowed[0]!;
  const doubt = explanation.doubtful ? ', as far as the rules can be decided' : '';
  return `${whereText(accept)} accepts the packet before ${first.ours ? 'our rule' : 'the drop'} at ${chainText(first)} is reached${doubt}`;
}

function endText({ is, rule }: End, doubtful: boolean): string {
  const does = is === 'dropped' ? `drops the packet${isOurs(rule) ? ' (imds-guard)' : ''}` : 'sends the packet to somebody else';
  return `${whereText(rule)} ${does}${doubtful ? ', unless a rule before it decides' : ''}`;
}
