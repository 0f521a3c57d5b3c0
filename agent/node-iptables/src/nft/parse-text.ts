import { Draft, type DraftChain, type DraftTable, tableFlags } from './draft.ts';
import { NFT_FAMILIES, type NftFamily, type NftRuleset } from './model.ts';
import { priorityOf } from './priority.ts';
import { readSetBlock } from './text-set.ts';
import { readStatementsText } from './text-statement.ts';
import { Cursor, type Token, isNewline, isNote, tokensOf, wordsOf } from './tokens.ts';

/**
 * Reads the text of `nft list ruleset` or `nft list table …`, with or without handles. Never throws and never loses a
 * rule: words that are not known stay in the rule, as an unread statement; lines that have no place are in `unread`.
 */
export function parseNftText(text: string): NftRuleset {
  const draft = new Draft();
  const cursor = new Cursor(tokensOf(text));
  while (!cursor.done) readTopLevel(draft, cursor);
  return draft.done();
}

function readTopLevel(draft: Draft, cursor: Cursor): void {
  const line = cursor.peek()!;
  if (isNewline(line) || isNote(line) || (!line.quoted && line.text === ';')) {
    cursor.next();
    return;
  }
  const header = cursor.attempt(readTableHeader);
  if (header) readTable(draft, draft.table(header.family, header.name), cursor);
  else unreadLine(draft, cursor, 'no table begins here');
}

/** `table ip6 calico {`; without a family it is ip. */
function readTableHeader(cursor: Cursor): { family: NftFamily; name: string } | undefined {
  if (!cursor.take('table')) return undefined;
  const family = (cursor.peek(1)?.text === '{' ? undefined : cursor.takeOne(NFT_FAMILIES)) as NftFamily | undefined;
  const name = cursor.word();
  return name !== undefined && cursor.take('{') ? { family: family ?? 'ip', name } : undefined;
}

function readTable(draft: Draft, table: DraftTable, cursor: Cursor): void {
  while (!cursor.done) {
    const token = cursor.next()!;
    if (isNewline(token) || isNote(token) || token.text === ';') continue;
    if (token.text === '}' && !token.quoted) return;
    const name = cursor.is('{', 1) ? cursor.peek()!.text : undefined;
    if (token.text === 'chain' && name !== undefined) {
      cursor.at += 2;
      readChain(draft, table.family, table.chain(name), cursor);
    } else if ((token.text === 'set' || token.text === 'map') && name !== undefined) {
      cursor.at += 2;
      const set = readSetBlock(cursor, name, token.text);
      table.sets.set(name, set);
      // They may as well have been a chain, where the set's own bracket is missing.
      for (const text of set.unread) draft.unread.push({ line: token.line, text, because: `no part of the set ${name}` });
    } else if (token.text === 'flowtable' && name !== undefined) {
      cursor.at += 2;
      table.flowtables.set(name, { name, devices: devicesIn(block(cursor)) });
    } else if (/^(counter|quota|limit|ct|synproxy|secmark|tunnel)$/.test(token.text) && skipObject(cursor)) {
      continue;
    } else if (token.text === 'flags') {
      Object.assign(table, tableFlags(line(cursor).map((word) => word.text).filter((word) => word !== ',' && word !== ';')));
    } else if (token.text === 'comment') {
      line(cursor);
    } else {
      cursor.at--;
      unreadLine(draft, cursor, `no known object in table ${table.name}`);
    }
  }
  draft.unread.push({ line: 0, text: `table ${table.family} ${table.name}`, because: 'the text ends inside the table' });
}

/** `counter c {`, `ct helper h {`: they change no packet by themselves. */
const skipObject = (cursor: Cursor): boolean =>
  cursor.attempt(() => {
    while (!cursor.done && !cursor.is('{') && !cursor.is('\n')) cursor.next();
    if (!cursor.take('{')) return undefined;
    block(cursor);
    return true;
  }) ?? false;

function readChain(draft: Draft, family: NftFamily, chain: DraftChain, cursor: Cursor): void {
  while (!cursor.done) {
    const token = cursor.peek()!;
    if (isNewline(token) || isNote(token) || cursor.is(';')) {
      cursor.next();
    } else if (cursor.take('}')) {
      return;
    } else if (cursor.is('type') && cursor.is('hook', 2)) {
      readHook(family, chain, statement(cursor));
    } else if (cursor.is('policy')) {
      cursor.next();
      chain.policy = wordsOf(statement(cursor));
    } else {
      readRule(chain, statement(cursor));
    }
  }
  const because = 'the text ends inside the chain';
  chain.rules.push({ chain: chain.name, expressions: [{ unread: because }], comment: undefined, text: because });
  draft.unread.push({ line: 0, text: `chain ${chain.name}`, because });
}

/** `type filter hook ingress devices = { eth0, lo } priority srcnat + 10` */
function readHook(family: NftFamily, chain: DraftChain, words: readonly Token[]): void {
  chain.type = words[1]?.text;
  chain.hook = words[3]?.text;
  const at = words.findIndex((token) => token.text === 'priority');
  chain.priority = at < 0 ? undefined : priorityOf(words.slice(at + 1).filter((token) => !isNote(token)).map((token) => token.text), family);
  chain.devices = devicesIn(words.slice(4, at < 0 ? undefined : at));
}

/** `device "eth0"`, `devices = { eth0, "lo" }` */
function devicesIn(words: readonly Token[]): string[] {
  const at = words.findIndex((token) => !token.quoted && /^devices?$/.test(token.text));
  if (at < 0) return [];
  const names = words.slice(at + 1);
  const end = names.findIndex((token) => token.text === '}' || token.text === ';');
  return names.slice(0, end < 0 ? undefined : end).filter((token) => token.quoted || !/^[={,\n]$/.test(token.text)).map((token) => token.text);
}

function readRule(chain: DraftChain, words: readonly Token[]): void {
  const { expressions, comment } = readStatementsText(words);
  // `comment "…"` alone in its line is about the chain.
  if (expressions.length === 0) return;
  chain.rules.push({ chain: chain.name, expressions, comment, text: wordsOf(words.filter((token) => !/^#\s*handle \d+$/.test(token.text))) });
}

/** Up to the end of the line, or to a semicolon, outside any bracket; the bracket that closes the chain stays. */
function statement(cursor: Cursor): readonly Token[] {
  const from = cursor.at;
  for (let depth = 0; !cursor.done; cursor.next()) {
    if (cursor.is('{')) depth++;
    else if (cursor.is('}') && depth-- === 0) break;
    else if (depth === 0 && (cursor.is('\n') || cursor.is(';'))) break;
  }
  return cursor.slice(from).filter((token) => !isNewline(token));
}

/** Up to the bracket that closes the one just opened, which is taken too. */
function block(cursor: Cursor): readonly Token[] {
  const from = cursor.at;
  for (let depth = 1; !cursor.done; ) {
    if (cursor.is('{')) depth++;
    else if (cursor.is('}')) depth--;
    cursor.next();
    if (depth === 0) break;
  }
  return cursor.slice(from);
}

function line(cursor: Cursor): readonly Token[] {
  const from = cursor.at;
  while (!cursor.done && !cursor.is('\n')) cursor.next();
  return cursor.slice(from);
}

/** The line, and all of a bracket that it opens. */
function unreadLine(draft: Draft, cursor: Cursor, because: string): void {
  const at = cursor.peek()!.line;
  const from = cursor.at;
  let depth = 0;
  for (; !cursor.done; cursor.next()) {
    if (cursor.is('{')) depth++;
    else if (cursor.is('}') && --depth <= 0) {
      if (depth === 0 || from === cursor.at) cursor.next();
      break;
    } else if (depth === 0 && cursor.is('\n')) break;
  }
  const text = wordsOf(cursor.slice(from));
  draft.unread.push({ line: at, text: text.length > 300 ? `${text.slice(0, 300)}…` : text, because });
}
