import type { NftSet } from './model.ts';
import { readSetText } from './text-value.ts';
import { type Cursor, type Token, isNewline, isNote, wordsOf } from './tokens.ts';

/** The inside of `set NAME {`: type, flags, timeout, elements, and conditions that every element carries. */
export function readSetBlock(cursor: Cursor, name: string, kind: 'set' | 'map'): NftSet {
  let types: string[] = [];
  let flags: string[] = [];
  let hasTimeout = false;
  let hasConditions = false;
  let elements: unknown[] = [];
  const unread: string[] = [];
  let closed = false;
  while (!cursor.done && !(closed = cursor.take('}'))) {
    const token = cursor.next()!;
    switch (token.quoted ? '"' : token.text) {
      case '\n':
      case ';':
        break;
      case 'type':
      case 'typeof':
        types = wordsOf(line(cursor)).split(' : ');
        break;
      case 'flags':
        flags = line(cursor).map((word) => word.text).filter((word) => word !== ',');
        break;
      case 'elements': {
        cursor.take('=');
        const read = cursor.attempt(readSetText);
        if (read) elements = [...elements, ...read.set];
        else unread.push(wordsOf(line(cursor)));
        break;
      }
      case 'timeout':
        hasTimeout = true;
        line(cursor);
        break;
      case 'limit':
      case 'quota':
      case 'ct':
        hasConditions = true;
        line(cursor);
        break;
      case 'size':
      case 'gc-interval':
      case 'policy':
      case 'auto-merge':
      case 'comment':
      case 'counter':
      case 'last':
        line(cursor);
        break;
      default:
        if (!isNote(token)) unread.push(wordsOf([token, ...line(cursor)]));
    }
  }
  if (!closed) unread.push('the text ends inside the set');
  const [keyType = '', dataType] = types;
  return { name, kind, keyType, dataType: kind === 'map' ? dataType : undefined, flags, hasTimeout: hasTimeout || flags.includes('timeout'), hasConditions, elements, unread };
}

/** To the end of the line or the semicolon, notes left out. */
function line(cursor: Cursor): readonly Token[] {
  const from = cursor.at;
  while (!cursor.done && !cursor.is('\n') && !cursor.is(';') && !cursor.is('}')) cursor.next();
  return cursor.slice(from).filter((token) => !isNewline(token) && !isNote(token));
}
