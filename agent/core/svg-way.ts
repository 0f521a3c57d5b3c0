import type { Explanation } from './explain.ts';
import { answerTone } from './svg-answer.ts';
import { drawBox, type DrawnBox } from './svg-box.ts';
import type { Box, Grid } from './svg-boxes.ts';
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
  const passed = explanation.fate === 'passed';
  const end = passed ? y + GAP : (ends ?? y);
  line += `V${px(end)}`;
  const away = explanation.fate === 'redirected' ? elsewhere(explanation, ends ?? y, y + GAP, grid) : undefined;
  const below = away ? away.bottom : y;
  const imds = below + GAP;
  if (passed) heads.push(arrow(spine, imds, tone));
  return {
    svg: [
      ...drawn.map(({ back }) => back),
      passed ? '' : `<path d="M${px(spine)} ${px(below)}V${px(imds)}" class="beyond"/>`,
      away?.line ?? '',
      `<path d="${line}" class="way ${tone}-line${explanation.doubtful ? ' doubt' : ''}"/>`,
      ...heads,
      podNode(explanation, top),
      ...drawn.map(({ front }) => front),
      away?.node ?? '',
      imdsNode(explanation, imds, tone),
    ].filter((part) => part !== '').join('\n'),
    bottom: imds + NODE,
  };
}

/** `TCP 10.0.0.1:40000 → 169.254.169.254:80   in eni1 out ens5   NEW   mark 0x0` */
export function packetText({ packet }: Explanation): string {
  const protocol = packet.protocol === 6 ? 'TCP' : packet.protocol === 17 ? 'UDP' : `protocol ${packet.protocol}`;
  const [from, to] = [endText(packet.source, packet.sourcePort), endText(packet.destination, packet.destinationPort)];
  return `${protocol} ${from} → ${to}   in ${shorten(packet.in, 20)}, out ${shorten(packet.out, 20)}   ${packet.state}   mark ${packet.mark}`;
}

const endText = (address: string, port: number): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);

const podNode = (explanation: Explanation, top: number): string => nodeAt(top, 'Pod', packetText(explanation), 'plain', '');

function imdsNode({ packet, fate, answer, doubtful }: Explanation, top: number, tone: Tone): string {
  const name = `IMDS ${packet.destination}`;
  if (fate !== 'passed') return nodeAt(top, name, 'this packet never gets here', 'plain', ' beyond');
  return nodeAt(top, name, doubtful || answer !== 'open' ? 'the packet may get here' : 'the packet gets here', tone, '');
}

/** The line turns to whom a DNAT, REDIRECT or TPROXY names. */
function elsewhere({ path }: Explanation, from: number, top: number, grid: Grid): { line: string; node: string; bottom: number } {
  const to = path.at(-1)?.rules.at(-1)?.does.replace(/^redirect to /, '') ?? '';
  const line = `<path d="M${px(BOX + grid.spine)} ${px(from)}V${px(top)}" class="way amber-line"/>`;
  return { line: line, node: `${arrow(BOX + grid.spine, top, 'amber')}${nodeAt(top, 'Somebody else', shorten(to, 60), 'amber', '')}`, bottom: top + NODE };
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
