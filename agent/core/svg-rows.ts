import { type ExplainedStop, type Explanation, isOurs } from './explain.ts';
import type { RuleReport } from './report.ts';
import { placeText } from './rule-report.ts';
import { shorten } from './svg-text.ts';

/** One line in the box of a base chain. */
export interface Row {
  readonly is: 'went on' | 'accepted' | 'shadowing' | 'dropped' | 'redirected' | 'undecided' | 'left out' | 'never reached';
  /** `cali-FORWARD 3`, indented as deep as the chain was called. */
  readonly where: string;
  readonly does: string;
  readonly rule: string;
  readonly ours: boolean;
  /** All of it, for the tooltip. */
  readonly whole: string;
}

/** A picture with more rows than this is a wall; the first and the last rules of a chain say where the packet went. */
const MOST_RULES = 24;
const MOST_SHADOWED = 8;
const MOST_CHAIN = 32;
const MOST_DOES = 32;
const MOST_RULE = 92;
const DEEPEST = 5;

/** The chain took no notice of the packet: only its policy let it go. */
export const onlyPolicy = (stop: ExplainedStop): boolean =>
  stop.shadowed.length === 0 && stop.rules.every((rule) => rule.number === 0 && rule.does === 'accept');

export function rowsOf(stop: ExplainedStop, explanation: Explanation): Row[] {
  const depths = depthsOf(stop.rules);
  const end = endOf(explanation);
  const taken = stop.rules.map((rule, at): Row => ruleRow(rule, rule === end?.rule ? end.is : kindOf(stop, at), depths[at]!));
  return [...thinned(taken), ...shadowedRows(stop)];
}

export interface End {
  readonly is: 'dropped' | 'redirected';
  readonly rule: ExplainedStop['rules'][number];
}

/** The rule where the packet's way ends: the last that took it, so that a rule above that only may decide is not named. */
export function endOf({ fate, path }: Explanation): End | undefined {
  const rule = path.findLast(({ rules }) => rules.length > 0)?.rules.at(-1);
  if (fate === 'passed' || !rule) return undefined;
  return { is: ENDS.test(rule.does) ? (rule.does.startsWith('redirect ') ? 'redirected' : 'dropped') : fate, rule };
}

/** What no packet comes back from (`actionText`, and nft's own words). */
const ENDS = /^(drop|reject|policy drop|redirect )/;

/** `filter FORWARD 2`, as people say it. */
export const whereText = (rule: RuleReport): string => `${shorten(rule.table, MOST_CHAIN)} ${chainText(rule)}`;

export const chainText = ({ chain, number }: RuleReport): string => `${shorten(chain, MOST_CHAIN)} ${number === 0 ? 'policy' : number}`;

/** The rule that keeps the packet from ours, where one does. */
export const shadowing = (explanation: Explanation): ExplainedStop | undefined =>
  explanation.path.find(({ shadowed }) => shadowed.some(({ ours }) => ours)) ?? explanation.path.find(({ shadowed }) => shadowed.length > 0);

/** A rule that would end the packet's way, and after which it goes on, is one that could not be decided. */
function kindOf({ rules, shadowed }: ExplainedStop, at: number): Row['is'] {
  const { does, number } = rules[at]!;
  const last = at === rules.length - 1;
  if (does === 'unread' || ENDS.test(does)) return 'undecided';
  if (does !== 'accept' || number === 0) return 'went on';
  return last ? (shadowed.length > 0 ? 'shadowing' : 'accepted') : 'undecided';
}

const ruleRow = (rule: RuleReport & { readonly does: string }, is: Row['is'], depth: number): Row => ({
  is,
  where: `${'  '.repeat(Math.min(depth, DEEPEST))}${rule.number === 0 ? 'policy' : chainText(rule)}`,
  does: shorten(is === 'undecided' && rule.does !== 'unread' ? `perhaps ${rule.does}` : rule.does, MOST_DOES),
  rule: shorten(essence(rule), MOST_RULE),
  ours: isOurs(rule),
  whole: `${placeText({ ...rule, family: rule.family as 'ip' })} ${rule.chain} ${rule.number === 0 ? 'policy' : rule.number}: ${rule.rule}`,
});

/** The chain has a column of its own, and what nft has counted is another number every time. */
const essence = ({ rule, chain }: RuleReport): string =>
  (rule.startsWith(`-A ${chain} `) ? rule.slice(chain.length + 4) : rule).replace(/(^| )counter packets \d+ bytes \d+ /, '$1');

const marker = (is: 'left out' | 'never reached', where: string): Row => ({ is, where, does: '', rule: '', ours: false, whole: '' });

function thinned(rows: readonly Row[]): Row[] {
  if (rows.length <= MOST_RULES) return [...rows];
  const half = MOST_RULES / 2;
  return [...rows.slice(0, half), marker('left out', `… ${rows.length - 2 * half} more rules …`), ...rows.slice(-half)];
}

/** Where there are too many, ours are kept before others. */
function shadowedRows({ shadowed }: ExplainedStop): Row[] {
  const chosen = new Set([...shadowed.filter(({ ours }) => ours), ...shadowed.filter(({ ours }) => !ours)].slice(0, MOST_SHADOWED));
  const rows = shadowed
    .filter((rule) => chosen.has(rule))
    .map((rule): Row => ({ ...ruleRow({ ...rule, does: targetOf(rule.rule) }, 'never reached', 0), ours: rule.ours }));
  return shadowed.length > rows.length ? [...rows, marker('never reached', `… ${shadowed.length - rows.length} more …`)] : rows;
}

const targetOf = (rule: string): string => {
  const found = / -[jg] (\S+)/.exec(rule)?.[1];
  return found === undefined || found === 'DROP' ? 'drop' : found === 'REJECT' ? 'reject' : `jump ${found}`;
};

/** How deep each rule's chain was called: a jump goes one deeper, a goto does not come back. */
function depthsOf(rules: ExplainedStop['rules']): number[] {
  const called: string[] = [];
  return rules.map(({ chain, does }) => {
    while (called.length > 0 && called.at(-1) !== chain) called.pop();
    if (called.length === 0) called.push(chain);
    const depth = called.length - 1;
    if (does.startsWith('goto ')) called.pop();
    if (/^(jump|goto) /.test(does)) called.push(does.slice(5));
    return depth;
  });
}
