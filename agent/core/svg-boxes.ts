import type { ExplainedStop, Explanation } from './explain.ts';
import { placeText } from './rule-report.ts';
import { onlyPolicy, type Row, rowsOf } from './svg-rows.ts';
import { COLUMN, columns, shorten } from './svg-text.ts';

/** A base chain on the way, as text still. */
export interface Box {
  readonly hook: string;
  /** `iptables-nft filter FORWARD` */
  readonly place: string;
  readonly whole: string;
  readonly priority: string;
  /** Empty where only the policy let the packet go: one line says it all. */
  readonly rows: readonly Row[];
}

/** Where the columns of all boxes of a picture stand, in px from the left edge of a box. */
export interface Grid {
  readonly spine: number;
  readonly where: number;
  readonly does: number;
  readonly rule: number;
  readonly width: number;
}

export const boxesOf = (explanation: Explanation): Box[] =>
  explanation.path.map((stop): Box => boxOf(stop, onlyPolicy(stop) ? [] : rowsOf(stop, explanation)));

/** The tag on a rule of ours, and the space after it. */
export const TAG = 'imds-guard';
export const TAG_WIDTH = (TAG.length + 3) * COLUMN;
export const HOOK = 13 * COLUMN;
export const NO_RULE_TOOK_IT = 'no rule here took it: policy accept';

/** @param least px that something else in the picture needs */
export function gridOf(boxes: readonly Box[], least: number): Grid {
  const rows = boxes.flatMap((box) => box.rows);
  const widest = (of: (row: Row) => string): number => Math.max(0, ...rows.filter(({ is }) => is !== 'left out').map((row) => columns(of(row)))) * COLUMN;
  const where = 46;
  const does = where + Math.max(widest((row) => row.where), 10 * COLUMN) + 2 * COLUMN;
  const rule = does + widest((row) => row.does) + 2 * COLUMN;
  const ends = rows.map((row) => rule + columns(row.rule) * COLUMN + (row.ours ? TAG_WIDTH : 0));
  const heads = boxes.map((box) => where + HOOK + columns(`${box.place}  ${box.priority}${box.rows.length === 0 ? `  ${NO_RULE_TOOK_IT}` : ''}`) * COLUMN);
  return { spine: 24, where, does, rule, width: Math.ceil(Math.max(least, ...ends, ...heads) + 18) };
}

const MOST_PLACE = 64;

function boxOf(stop: ExplainedStop, rows: readonly Row[]): Box {
  const whole = `${placeText({ ...stop, family: stop.family as 'ip' })} ${stop.chain}`;
  return { hook: shorten(stop.hook, 12), place: shorten(whole, MOST_PLACE), whole, priority: `priority ${stop.priority}`, rows };
}
