import type { Explanation } from './explain.ts';
import { answerText, answerTone, summaryOf } from './svg-answer.ts';
import { type Box, boxesOf, type Grid, gridOf } from './svg-boxes.ts';
import { styleSheet } from './svg-style.ts';
import { COLUMN, columns, px, shorten, textAt, xml } from './svg-text.ts';
import { BOX, drawWay, MARGIN, packetText } from './svg-way.ts';

const NARROWEST = 90;
const MOST_NAME = 60;
const MOST_SUMMARY = 128;
const HEADING = 66;
const BETWEEN = 36;

/**
 * Each target's packet on its way, as one SVG that stands alone: no script, no font or host from elsewhere, and text
 * that stays text whatever a rule's comment holds. Same explanations, same bytes.
 */
export function explanationSvg(explanations: readonly Explanation[]): string {
  const ways = explanations.map((explanation) => ({ explanation, boxes: boxesOf(explanation) }));
  const grid = gridFor(ways);
  const width = BOX + grid.width + MARGIN;
  let y = MARGIN;
  const drawn: string[] = [];
  for (const { explanation, boxes } of ways) {
    drawn.push(heading(explanation, y));
    const way = drawWay(explanation, boxes, y + HEADING, grid);
    drawn.push(way.svg);
    y = way.bottom + BETWEEN;
  }
  if (ways.length === 0) {
    drawn.push(textAt(MARGIN, y + 16, NOTHING, 'ink strong'));
    y += 24 + BETWEEN;
  }
  return document(width, y - BETWEEN + MARGIN, explanations, drawn);
}

const NOTHING = 'Nothing to explain: no rules of any family were given.';

function gridFor(ways: readonly { readonly explanation: Explanation; readonly boxes: readonly Box[] }[]): Grid {
  const lines = ways.flatMap(({ explanation }) => [headingColumns(explanation), columns(summaryText(explanation)), columns(packetText(explanation)) + 12]);
  return gridOf(ways.flatMap(({ boxes }) => boxes), Math.max(NARROWEST, ...lines) * COLUMN);
}

const nameText = ({ name }: Explanation): string => shorten(name, MOST_NAME);
const summaryText = (explanation: Explanation): string => shorten(summaryOf(explanation), MOST_SUMMARY);
const headingColumns = (explanation: Explanation): number =>
  columns(nameText(explanation) + explanation.answer) * LARGE + columns(answerText(explanation.answer)) + 8;

/** `eni+ ipv4  [OPEN]`, and below it why, in a sentence. */
function heading(explanation: Explanation, y: number): string {
  const name = nameText(explanation);
  const word = explanation.answer.toUpperCase();
  const tone = answerTone(explanation.answer);
  const at = MARGIN + columns(name) * COLUMN * LARGE + 16;
  const wide = columns(word) * COLUMN * LARGE + 24;
  return [
    large(MARGIN, y + 21, name, 'ink strong'),
    `<rect x="${px(at)}" y="${px(y)}" width="${px(wide)}" height="30" rx="6" class="${tone}"/>`,
    large(at + 12, y + 21, word, `${tone}-on strong`),
    textAt(at + wide + 14, y + 20, answerText(explanation.answer), 'faint'),
    textAt(MARGIN, y + 51, summaryText(explanation), 'ink strong'),
  ].join('\n');
}

const LARGE = 1.5;
const large = (x: number, y: number, text: string, kind: string): string =>
  `<g transform="translate(${px(x)} ${px(y)}) scale(${LARGE})">${textAt(0, 0, text, kind)}</g>`;

function document(width: number, height: number, explanations: readonly Explanation[], drawn: readonly string[]): string {
  const size = `width="${px(width)}" height="${px(height)}" viewBox="0 0 ${px(width)} ${px(height)}"`;
  const said = explanations.map((explanation) => `${explanation.name}: ${explanation.answer}. ${summaryOf(explanation)}.`);
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" xml:space="preserve">`,
    `<title>${xml(`Can pods reach IMDS? ${explanations.map(({ name, answer }) => `${name}: ${answer}`).join(', ') || 'unknown'}`)}</title>`,
    `<desc>${xml(said.join(' ') || NOTHING)}</desc>`,
    styleSheet(),
    `<rect width="${px(width)}" height="${px(height)}" class="ground"/>`,
    ...drawn,
    '</svg>',
  ].join('\n')}\n`;
}
