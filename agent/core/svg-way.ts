import type { Explanation } from './explain.ts';
import { answerTone } from './svg-answer.ts';
import { drawBox, type DrawnBox } from './svg-box.ts';
import type { Box, Grid } from './svg-boxes.ts';
import { type End, endOf } from './svg-rows.ts';
import type { Tone } from './svg-style.ts';
import { COLUMN, columns, px, shorten, textAt } from './svg-text.ts';

export const MARGIN = 24;
/** Left of the boxes there is a lane for the line that goes round rules never reached. */
export const BOX = MARGIN + 24;
const LANE = MARGIN + 8;
const NODE = 36;
const GAP = 24;

/** One packet's way, from the pod down through each base chain to IMDS or to where it ends. */
export function drawWay(explanation: Explanation, boxes: readonly Box[], top: number, grid: Grid): { readonly svg: string; readonly bottom: number } {
  const tone = answerTone(explanation.answer);
  const spine = BOX + grid.spine;
  let y = top + NODE;
  let line = `M${px(spine)} ${px(y)}`;
  let ends: number | undefined;
  const drawn: DrawnBox[] = [];
  const heads: string[] = [];
  for (const box of boxes) {
    y += GAP;
    heads.push(arrow(spine, y, tone));
    const one = drawBox(box, BOX, y, grid, tone);
    drawn.push(one);
    y = one.bottom;
    ends = one.ends;
    if (one.leaves !== undefined) line += `V${px(one.leaves)}H${px(LANE)}V${px(y + 8)}H${px(spine)}`;
  }
  const end = endOf(explanation);
  const away = end?.is === 'redirected' ? elsewhere(end, y + GAP, spine) : '';
  const stopped = y + (away === '' ? 0 : GAP + NODE);
  const imds = stopped + GAP;
  line += `V${px(end?.is === 'dropped' ? (ends ?? y) : y + GAP)}`;
  if (!end) heads.push(arrow(spine, imds, tone));
  const parts = [
    ...drawn.map(({ back }) => back),
    end ? `<path d="M${px(spine)} ${px(stopped)}V${px(imds)}" class="beyond"/>` : '',
    `<path d="${line}" class="way ${tone}-line${explanation.doubtful ? ' doubt' : ''}"/>`,
    ...heads,
    podNode(explanation, top),
    ...drawn.map(({ front }) => front),
    away,
    imdsNode(explanation, end, imds, tone),
  ];
  return { svg: parts.filter((part) => part !== '').join('\n'), bottom: imds + NODE };
}

/** `TCP 10.0.0.1:40000 → 169.254.169.254:80   in eni1 out ens5   NEW   mark 0x0` */
export function packetText({ packet }: Explanation): string {
  const protocol = packet.protocol === 6 ? 'TCP' : packet.protocol === 17 ? 'UDP' : `protocol ${packet.protocol}`;
  const [from, to] = [endText(packet.source, packet.sourcePort), endText(packet.destination, packet.destinationPort)];
  return `${protocol} ${from} → ${to}   in ${shorten(packet.in, 20)}, out ${shorten(packet.out, 20)}   ${packet.state}   mark ${packet.mark}`;
}

const endText = (address: string, port: number): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);

const podNode = (explanation: Explanation, top: number): string => nodeAt(top, 'Pod', packetText(explanation), 'plain', '');

function imdsNode({ packet, answer, doubtful }: Explanation, end: End | undefined, top: number, tone: Tone): string {
  const name = `IMDS ${packet.destination}`;
  if (end) return nodeAt(top, name, end.is === 'dropped' ? 'this packet never gets here' : 'not by itself: what somebody else does with it, rules cannot show', 'plain', ' beyond');
  return nodeAt(top, name, doubtful || answer !== 'open' ? 'the packet may get here' : 'the packet gets here', tone, '');
}

/** Whom a DNAT, REDIRECT or TPROXY names. */
function elsewhere({ rule }: End, top: number, x: number): string {
  const to = rule.does.replace(/^redirect to /, '');
  return `${arrow(x, top, 'amber')}${nodeAt(top, 'Somebody else', shorten(to, 60), 'amber', '')}`;
}

const nodeAt = (top: number, name: string, text: string, tone: Tone, beyond: string): string => {
  const wide = (columns(name) + 3 + columns(text)) * COLUMN + 28;
  return [
    `<rect x="${px(BOX)}" y="${px(top)}" width="${px(wide)}" height="${NODE}" rx="${NODE / 2}" class="${beyond ? `ground${beyond}` : `end ${tone}-line ${tone}-band`}"/>`,
    textAt(BOX + 14, top + 22, name, `${beyond ? 'faint' : tone} strong`),
    textAt(BOX + 14 + (columns(name) + 3) * COLUMN, top + 22, text, beyond ? 'faint' : 'ink'),
  ].join('');
};

const arrow = (x: number, y: number, tone: Tone): string => `<path d="M${px(x - 6)} ${px(y - 10)}h12l-6 10z" class="${tone}"/>`;
