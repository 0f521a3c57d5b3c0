import { parseIPv4, parseIPv6 } from '../sets/address.ts';
import { statementOfVerdict } from './text-verdict.ts';
import { type Cursor, type Token, isNewline, wordsOf } from './tokens.ts';

/** The right side of a match, an element, a constant: text to the values of libnftables-json(5). */
export function readValueText(cursor: Cursor): unknown {
  if (cursor.is('{')) return cursor.deeper(readSetText);
  if (cursor.is('(')) return cursor.deeper(readFlagsInBrackets);
  const parts = [readOneText(cursor)];
  if (parts[0] === undefined) return undefined;
  while (cursor.is('.') && cursor.peek(1)) {
    cursor.next();
    parts.push(readOneText(cursor));
  }
  return parts.length === 1 ? parts[0] : parts.includes(undefined) ? undefined : { concat: parts };
}

/** `established,related`; `established | related` is what is joined before it is compared. */
export function readListText(cursor: Cursor): unknown {
  const first = readValueText(cursor);
  if (first === undefined) return undefined;
  const sign = cursor.is('|') ? '|' : ',';
  const list = [first];
  while (cursor.take(sign)) {
    const value = readValueText(cursor);
    if (value === undefined) return undefined;
    list.push(value);
  }
  return list.length === 1 ? first : sign === '|' ? { '|': list } : list;
}

/** `(fin | syn | rst | ack)` */
function readFlagsInBrackets(cursor: Cursor): unknown {
  if (!cursor.take('(')) return undefined;
  const list = readListText(cursor);
  return cursor.take(')') ? list : undefined;
}

function readOneText(cursor: Cursor): unknown {
  const token = cursor.peek();
  const text = cursor.word();
  if (token === undefined || text === undefined) return undefined;
  // `"10:00"-"12:00"`, of meta hour.
  if (token.quoted && cursor.is('-') && cursor.peek(1)?.quoted) {
    cursor.next();
    return { range: [text, cursor.word()] };
  }
  return valueOfWord(text, token.quoted);
}

/** One word: a number, an address, a prefix `a/len`, a range `a-b`, else a name. */
export function valueOfWord(text: string, quoted: boolean): unknown {
  if (quoted) return text;
  if (text === 'exists') return true;
  if (text === 'missing') return false;
  if (isNumber(text)) return Number(text);
  const prefix = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(text);
  if (prefix && isAddress(prefix[1]!)) return { prefix: { addr: prefix[1], len: Number(prefix[2]) } };
  const range = /^([^-]+)-([^-]+)$/.exec(text);
  if (range && (isNumber(range[1]!) ? isNumber(range[2]!) : isAddress(range[1]!) && isAddress(range[2]!))) {
    return { range: [valueOfWord(range[1]!, false), valueOfWord(range[2]!, false)] };
  }
  return text;
}

const isNumber = (text: string): boolean => /^(0x[0-9a-fA-F]{1,13}|\d{1,15})$/.test(text);
const isAddress = (text: string): boolean => parseIPv4(text) !== undefined || parseIPv6(text) !== undefined;

/** An element of flags, `syn | ack`. */
function readJoinedText(cursor: Cursor): unknown {
  const joined = [readValueText(cursor)];
  while (joined[0] !== undefined && cursor.take('|')) joined.push(readValueText(cursor));
  return joined.length === 1 ? joined[0] : { '|': joined };
}

/** `{ 10.0.0.1, 10.0.0.0/8 timeout 1h }`, and for maps `{ "eth0" : jump c, 22 : 0x10 }`. */
export function readSetText(cursor: Cursor): { set: unknown[] } | undefined {
  if (!cursor.take('{')) return undefined;
  const set: unknown[] = [];
  while (!cursor.done) {
    while (cursor.take('\n') || cursor.take(',')) { /* line ends mean nothing between brackets */ }
    if (cursor.take('}')) return { set };
    set.push(readElementText(cursor));
  }
  return undefined;
}

function readElementText(cursor: Cursor): unknown {
  const key = readJoinedText(cursor);
  const about: Token[] = [];
  while (!cursor.done && !endsElement(cursor) && !cursor.is(':')) about.push(cursor.next()!);
  const whole = about.every(isNewline) && key !== undefined ? key : { elem: { val: key ?? wordsOf(about), ...describe(about) } };
  if (!cursor.take(':')) return whole;
  const data = statementOfVerdict(cursor) ?? readValueText(cursor);
  const trailing: Token[] = [];
  while (!cursor.done && !endsElement(cursor)) trailing.push(cursor.next()!);
  // Words behind the data are none that nft writes: the data is not to be trusted then.
  return [whole, trailing.every(isNewline) ? data : { unread: wordsOf(trailing) }];
}

const endsElement = (cursor: Cursor): boolean => cursor.is(',') || cursor.is('}');

/** `timeout 1h expires 59m`, `counter packets 0 bytes 0`, `comment "x"`; anything else is a condition. */
function describe(tokens: readonly Token[]): Record<string, unknown> {
  const words = tokens.filter((token) => !isNewline(token));
  const about: Record<string, unknown> = {};
  for (let at = 0; at < words.length; at++) {
    const name = words[at]!.text;
    if (name === 'timeout' || name === 'expires' || name === 'comment') about[name] = words[++at]?.text;
    else if (name === 'counter') {
      about['counter'] = null;
      while (/^(packets|bytes)$/.test(words[at + 1]?.text ?? '')) at += 2;
    } else return { ...about, unread: wordsOf(words.slice(at)) };
  }
  return about;
}
