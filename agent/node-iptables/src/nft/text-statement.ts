import { readTranslationText } from './text-translation.ts';
import { readExpressionText, readField, readMapData } from './text-expression.ts';
import { readListText } from './text-value.ts';
import { statementOfVerdict } from './text-verdict.ts';
import { Cursor, type Token, isNote, wordsOf } from './tokens.ts';

/**
 * The statements of one rule, as libnftables-json(5) writes them, so that one reader serves both forms. Words that
 * are not known become one unread statement, up to the verdict where the rule ends in one; no word is left out.
 */
export function readStatementsText(tokens: readonly Token[]): { expressions: unknown[]; comment: string | undefined } {
  const { words, note } = withoutNotes(tokens);
  const comment = words.at(-2)?.text === 'comment' && !words.at(-2)!.quoted ? words.at(-1)!.text : undefined;
  const cursor = new Cursor(comment === undefined ? words : words.slice(0, -2));
  const expressions: unknown[] = [];
  while (!cursor.done) {
    const from = cursor.at;
    const statement = cursor.attempt(readStatementText);
    expressions.push(cursor.at > from && statement !== undefined ? statement : readUnknown(cursor));
  }
  return { expressions: note === undefined ? expressions : [{ unread: note }, ...expressions], comment };
}

/** `# handle 5` says nothing about packets; any other note may stand for a match that this nft could not print. */
function withoutNotes(tokens: readonly Token[]): { words: readonly Token[]; note: string | undefined } {
  const notes = tokens.filter(isNote).map((token) => token.text.replace(/#\s*handle \d+$/, '').trim()).filter((text) => text !== '');
  return { words: tokens.filter((token) => !isNote(token)), note: notes.length === 0 ? undefined : notes.join(' ') };
}

function readStatementText(cursor: Cursor): unknown {
  const verdict = statementOfVerdict(cursor);
  if (verdict) return verdict;
  const word = cursor.peek()!;
  if (!word.quoted) {
    const read = Object.hasOwn(STATEMENTS, word.text) ? STATEMENTS[word.text]! : undefined;
    const statement = read && cursor.attempt((at) => { at.next(); return read(at, word.text); });
    if (statement !== undefined) return statement;
  }
  return readMatchText(cursor);
}

const bare = (_: Cursor, word: string): unknown => ({ [word]: null });
/** What follows belongs to it, to the end of the rule. */
const toTheEnd = (cursor: Cursor, word: string): unknown => ({ [word]: wordsOf(cursor.rest()) });

const STATEMENTS: Readonly<Record<string, (cursor: Cursor, word: string) => unknown>> = {
  counter: readCounter,
  log: readLog,
  limit: readLimit,
  quota: readQuota,
  ct: readCtStatement,
  reject: readReject,
  notrack: bare,
  masquerade: readTranslationText,
  snat: readTranslationText,
  dnat: readTranslationText,
  redirect: readTranslationText,
  tproxy: readTranslationText,
  queue: toTheEnd,
  synproxy: toTheEnd,
  fwd: toTheEnd,
  flow: (cursor) => (cursor.takeOne(['add', 'offload']) === undefined ? undefined : { flow: { op: 'add', flowtable: cursor.word() } }),
  add: readSetUpdate,
  update: readSetUpdate,
  delete: readSetUpdate,
};

function readCounter(cursor: Cursor): unknown {
  if (cursor.take('name')) return { counter: cursor.word() };
  while (cursor.takeOne(['packets', 'bytes']) !== undefined) cursor.word();
  return { counter: null };
}

/** `log prefix "x" level debug flags tcp sequence,options group 2` */
function readLog(cursor: Cursor): unknown {
  let prefix: string | undefined;
  for (;;) {
    const option = cursor.takeOne(['prefix', 'level', 'flags', 'group', 'snaplen', 'queue-threshold']);
    if (option === undefined) return { log: prefix === undefined ? null : { prefix } };
    const value = cursor.word();
    if (option === 'prefix') prefix = value;
    if (option === 'flags' && (value === 'tcp' || value === 'ip')) cursor.word();
    while (option === 'flags' && cursor.take(',')) cursor.word();
  }
}

/** `limit rate over 5/minute burst 10 packets`, `limit rate 10 mbytes/second`, `limit name "x"` */
function readLimit(cursor: Cursor): unknown {
  if (cursor.take('name')) return { limit: cursor.word() };
  if (!cursor.take('rate')) return undefined;
  const inv = cursor.take('over');
  const rate = /^(\d+)(?:\/(\w+))?$/.exec(cursor.word() ?? '');
  if (!rate) return undefined;
  const per = rate[2] ?? cursor.word()?.split('/')[1];
  if (cursor.take('burst')) {
    cursor.word();
    cursor.word();
  }
  return { limit: { rate: Number(rate[1]), per, ...(inv ? { inv } : {}) } };
}

/** `quota over 10 mbytes used 2 mbytes`, `quota name "x"` */
function readQuota(cursor: Cursor): unknown {
  if (cursor.take('name')) return { quota: cursor.word() };
  const inv = cursor.takeOne(['over', 'until']) === 'over';
  const val = Number(cursor.word());
  const unit = cursor.word();
  if (!Number.isFinite(val) || unit === undefined) return undefined;
  if (cursor.take('used')) {
    cursor.word();
    cursor.word();
  }
  return { quota: { val, val_unit: unit, ...(inv ? { inv } : {}) } };
}

/** `ct count over 10` and `ct helper set "ftp"`; every other `ct` is looked at. */
function readCtStatement(cursor: Cursor): unknown {
  if (cursor.take('count')) {
    const inv = cursor.take('over');
    return { 'ct count': { val: Number(cursor.word()), ...(inv ? { inv } : {}) } };
  }
  const object = cursor.takeOne(['helper', 'timeout', 'expectation']);
  return object !== undefined && cursor.take('set') ? { [`ct ${object}`]: cursor.word() } : undefined;
}

/** `reject`, `reject with tcp reset`, `reject with icmpx admin-prohibited`; older nft says `icmpx type …`. */
function readReject(cursor: Cursor): unknown {
  if (!cursor.take('with')) return { reject: null };
  const type = cursor.word();
  cursor.take('type');
  const expr = cursor.word();
  return { reject: type === 'tcp' ? { type: 'tcp reset' } : { type, expr } };
}

/** `update @clients { ip saddr timeout 1m limit rate 5/second }`, for maps `{ ip saddr : 0x10 }`. */
function readSetUpdate(cursor: Cursor, op: string): unknown {
  const set = cursor.peek()?.text.startsWith('@') ? cursor.word() : undefined;
  if (set === undefined || !cursor.take('{')) return undefined;
  const elem = readExpressionText(cursor);
  let depth = 1;
  let isMap = false;
  while (!cursor.done && depth > 0) {
    if (cursor.is('{')) depth++;
    else if (cursor.is('}')) depth--;
    else if (cursor.is(':')) isMap = true;
    cursor.next();
  }
  if (elem === undefined || depth > 0) return undefined;
  return isMap ? { map: { op, elem, map: set } } : { set: { op, elem, set } };
}

/** Types that are sets of flags: `ct state new` asks for a share, where `tcp dport 80` asks for the whole. */
const FLAG_KEYS = new Set(['ct state', 'ct status', 'tcp flags', 'ct label', 'ct event']);

/** `FIELD [op] VALUE`, `FIELD vmap MAP`, `FIELD set VALUE`. */
function readMatchText(cursor: Cursor): unknown {
  if (cursor.attempt(readFieldStart) === undefined) return undefined;
  const from = cursor.at;
  const left = readExpressionText(cursor);
  if (left === undefined) return undefined;
  if (cursor.take('vmap')) {
    const data = readMapData(cursor);
    return data === undefined ? undefined : { vmap: { key: left, data } };
  }
  if (cursor.take('set')) {
    const value = readExpressionText(cursor);
    return value === undefined ? undefined : { mangle: { key: left, value } };
  }
  const key = wordsOf(cursor.slice(from));
  const op = cursor.takeOne(['==', '!=', '<', '>', '<=', '>=', '!']);
  const right = cursor.peek()?.text.startsWith('@') ? cursor.word() : readListText(cursor);
  if (right === undefined) return undefined;
  if (cursor.take('/')) {
    // `tcp flags syn / fin,syn,rst,ack`
    const mask = readListText(cursor);
    return mask === undefined ? undefined : { match: { op: op ?? '==', left: { '&': [left, mask] }, right } };
  }
  const isSet = typeof right === 'object' && right !== null && 'set' in right;
  return { match: { op: op ?? (FLAG_KEYS.has(key) && !isSet ? 'in' : '=='), left, right } };
}

/** Looks only: a match begins with a field, or with a bracket before one. */
function readFieldStart(cursor: Cursor): true | undefined {
  const from = cursor.at;
  while (cursor.take('(')) { /* `(meta mark & 1) | 2` */ }
  const found = cursor.attempt(readField) !== undefined;
  cursor.at = from;
  return found ? true : undefined;
}

/** Words that do something to a packet: without one of them, unknown words can only be a match. */
const DOES = new Set([
  'set', 'add', 'update', 'delete', 'dup', 'fwd', 'queue', 'dnat', 'redirect', 'tproxy', 'snat', 'masquerade', 'notrack', 'jump', 'goto', 'synproxy',
  'flow', 'vmap', 'map', 'reject', 'drop', 'accept', 'return', 'continue', 'xt', 'meter',
]);

/** Everything up to the verdict that ends the rule, or to its end. */
function readUnknown(cursor: Cursor): unknown {
  const rest = cursor.rest();
  const verdict = rest.length > 2 && /^(jump|goto)$/.test(rest.at(-2)!.text) ? 2 : rest.length > 1 && /^(accept|drop|return|continue)$/.test(rest.at(-1)!.text) ? 1 : 0;
  const words = rest.slice(0, rest.length - verdict);
  cursor.at -= verdict;
  const text = wordsOf(words);
  const isMatch = new Cursor(words).attempt(readField) !== undefined && !words.some((word) => !word.quoted && DOES.has(word.text));
  return isMatch ? { match: { op: '==', left: text, right: '' } } : { unread: text };
}
