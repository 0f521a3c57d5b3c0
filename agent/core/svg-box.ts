import { type Box, type Grid, HOOK, NO_RULE_TOOK_IT, TAG, TAG_WIDTH } from './svg-boxes.ts';
import type { Row } from './svg-rows.ts';
import type { Tone } from './svg-style.ts';
import { COLUMN, columns, px, textAt, xml } from './svg-text.ts';

/** A box, drawn: `back` lies under the packet's line, `front` on it. */
export interface DrawnBox {
  readonly back: string;
  readonly front: string;
  readonly bottom: number;
  /** Where the packet leaves the box before its end: the line goes round what it never reaches. */
  readonly leaves?: number;
  /** Where the packet ends. */
  readonly ends?: number;
}

const HEAD = 32;
const ROW = 24;
const CAPTION = 26;

export function drawBox(box: Box, left: number, top: number, grid: Grid, line: Tone): DrawnBox {
  const front: string[] = [head(box, left, top, grid)];
  let y = top + HEAD;
  let leaves: number | undefined;
  let ends: number | undefined;
  for (const row of box.rows) {
    front.push(drawRow(row, left, y, grid, line));
    if (row.is === 'dropped') ends = y + ROW / 2;
    y += ROW;
    if (row.is !== 'shadowing') continue;
    leaves = y - ROW / 2;
    front.push(textAt(left + grid.where, y + 17, NEVER_REACHED, 'red strong'));
    y += CAPTION;
  }
  const height = y - top + (box.rows.length > 0 ? 8 : 0);
  const back = `<rect x="${px(left)}" y="${px(top)}" width="${px(grid.width)}" height="${px(height)}" rx="8" class="box"/>`;
  const drawn = { back, front: front.join('\n'), bottom: top + height };
  return leaves === undefined ? (ends === undefined ? drawn : { ...drawn, ends }) : { ...drawn, leaves };
}

const NEVER_REACHED = 'The packet leaves the chain here. Below, what would have dropped it and is never reached:';

/** `forward      iptables-nft filter FORWARD                 priority 0` */
function head(box: Box, left: number, top: number, grid: Grid): string {
  const y = top + 21;
  const right = left + grid.width - 14 - columns(box.priority) * COLUMN;
  const place = left + grid.where + HOOK;
  const quiet = box.rows.length === 0 ? textAt(place + columns(`${box.place}  `) * COLUMN, y, NO_RULE_TOOK_IT, 'faint') : '';
  return [
    `<g><title>${xml(box.whole)}</title>`,
    textAt(left + grid.where, y, box.hook, 'faint'),
    textAt(place, y, box.place, 'ink strong'),
    quiet,
    textAt(right, y, box.priority, 'faint'),
    '</g>',
  ].join('');
}

/** Bold on a band what decides; struck what is never reached. */
function drawRow(row: Row, left: number, y: number, grid: Grid, line: Tone): string {
  const tone = toneOf(row.is, line);
  const band = row.whole === '' ? '' : bandAt(left, y, grid, tone ? `${tone}-band` : 'hit');
  const quiet = row.whole === '' ? 'faint' : row.is === 'never reached' ? 'faint struck' : undefined;
  const loud = tone ? `${tone} strong` : 'ink';
  const at = y + 16;
  const ruleAt = left + grid.rule + (row.ours ? TAG_WIDTH : 0);
  const indent = row.where.length - row.where.trimStart().length;
  return [
    row.whole === '' ? '<g>' : `<g><title>${xml(row.whole)}</title>`,
    band,
    stationOf(row, left + grid.spine, y + ROW / 2, line),
    textAt(left + grid.where + indent * COLUMN, at, row.where.trimStart(), quiet ?? loud),
    textAt(left + grid.does, at, row.does, quiet ?? loud),
    row.ours ? tagAt(left + grid.rule, y) : '',
    textAt(ruleAt, at, row.rule, quiet ?? (tone ? 'ink' : 'faint')),
    '</g>',
  ].join('');
}

function toneOf(is: Row['is'], line: Tone): Tone | undefined {
  switch (is) {
    case 'shadowing':
      return 'red';
    case 'accepted':
      return 'plain';
    case 'dropped':
      return line;
    case 'redirected':
    case 'undecided':
      return 'amber';
    default:
      return undefined;
  }
}

const bandAt = (left: number, y: number, grid: Grid, kind: string): string =>
  `<rect x="${px(left + grid.where - 6)}" y="${px(y + 1)}" width="${px(grid.width - grid.where - 2)}" height="${ROW - 2}" rx="4" class="${kind}"/>`;

const tagAt = (x: number, y: number): string =>
  `<rect x="${px(x)}" y="${px(y + 3)}" width="${px((TAG.length + 1.6) * COLUMN)}" height="${ROW - 6}" rx="9" class="ours"/>${textAt(x + 0.8 * COLUMN, y + 16, TAG, 'ours-on strong')}`;

/** A dot for a rule that took the packet, a no-entry sign for the one that ended it, nothing for those never reached. */
function stationOf({ is }: Row, x: number, y: number, line: Tone): string {
  const at = `cx="${px(x)}" cy="${px(y)}"`;
  switch (is) {
    case 'never reached':
    case 'left out':
      return '';
    case 'dropped':
      return `<circle ${at} r="9" class="${line}"/><rect x="${px(x - 5)}" y="${px(y - 2)}" width="10" height="4" class="${line}-on"/>`;
    case 'shadowing':
      return `<circle ${at} r="7" class="red"/>`;
    default:
      return `<circle ${at} r="4" class="${is === 'undecided' || is === 'redirected' ? 'amber' : line}"/>`;
  }
}
