import { visible } from './visible.ts';

/** Width of one column of text, in px: monospaced fonts are 0.6 em wide; 12 px and 0.2 to spare. */
export const COLUMN = 7.4;

/** Text for XML, with nothing in it that XML forbids (control characters, even as `&#27;`). */
export const xml = (text: string): string => visible(text).replace(/[&<>"']/g, (mark) => ENTITIES[mark]!);

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };

/** How many columns the text takes when shown. */
export const columns = (text: string): number => [...visible(text)].reduce((sum, mark) => sum + widthOf(mark), 0);

/** East Asian wide characters and emoji take two columns (UAX #11). */
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const widthOf = (mark: string): number => (WIDE.test(mark) ? 2 : 1);
/** A mark, or the escape that stands for one, which is never cut in two. */
const widthOfShown = (shown: string): number => (shown.startsWith('\\') ? shown.length : widthOf(shown));

/** At most so many columns; what is left out is left out of the middle, as a rule says most at its two ends. */
export function shorten(text: string, most: number): string {
  const marks = [...text].map(visible);
  if (columns(text) <= most) return marks.join('');
  const head = fitting(marks, Math.ceil((most - 1) / 2));
  const tail = fitting(marks.toReversed(), Math.floor((most - 1) / 2)).toReversed();
  return `${head.join('').trimEnd()}…${tail.join('').trimStart()}`;
}

function fitting(marks: readonly string[], most: number): string[] {
  let room = most;
  const end = marks.findIndex((mark) => (room -= widthOfShown(mark)) < 0);
  return marks.slice(0, end < 0 ? marks.length : end);
}

/** A line of text; `textLength` holds its width to what was computed, whatever font the reader has. */
export const textAt = (x: number, y: number, text: string, kind: string): string =>
  text === '' ? '' : `<text x="${px(x)}" y="${px(y)}" class="${kind}" textLength="${px(columns(text) * COLUMN)}">${xml(text)}</text>`;

/** Of a number, what a picture needs: the same bytes everywhere. */
export const px = (value: number): string => String(Math.round(value * 10) / 10);
