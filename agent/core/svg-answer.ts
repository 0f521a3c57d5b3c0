import type { Explanation } from './explain.ts';
import { isOurs } from './explain.ts';
import type { Answer } from './reasons.ts';
import type { Tone } from './svg-style.ts';
import { shadowing, whereText } from './svg-rows.ts';

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
  const doubt = explanation.doubtful ? ', as far as the rules can be decided' : '';
  const { by, fate } = explanation;
  if (by && fate === 'dropped') return `${whereText(by)} drops the packet${isOurs(by) ? ' (imds-guard)' : ''}${doubt}${late(explanation)}`;
  if (by && fate === 'redirected') return `${whereText(by)} sends the packet to somebody else${doubt}`;
  const stop = shadowing(explanation);
  const accept = stop?.rules.at(-1);
  if (!stop || !accept) return `No rule drops this packet${doubt}`;
  const first = stop.shadowed.find(({ ours }) => ours) ?? stop.shadowed[0]!;
  return `${whereText(accept)} accepts the packet before ${first.ours ? 'our rule' : 'the drop'} at ${first.chain} ${first.number} is reached${doubt}`;
}

/** A drop further on does not make a shadowed rule work. */
function late(explanation: Explanation): string {
  const stop = shadowing(explanation);
  const accept = stop?.rules.at(-1);
  return stop && accept && stop.shadowed.some(({ ours }) => ours) ? `; but ${whereText(accept)} keeps it from another rule of ours` : '';
}
