import { readSetText, readValueText } from './text-value.ts';
import type { Cursor } from './tokens.ts';

/** What stands left of a value or is computed: `meta mark & 0xff`, `ip saddr . tcp dport`, `ip saddr map @m`. */
export function readExpressionText(cursor: Cursor): unknown {
  const first = readSum(cursor, 0);
  if (first === undefined) return undefined;
  const parts: unknown[] = [first];
  while (cursor.take('.')) parts.push(readTerm(cursor));
  if (parts.includes(undefined)) return undefined;
  const key = parts.length === 1 ? first : { concat: parts };
  if (!cursor.take('map')) return key;
  const data = readMapData(cursor);
  return data === undefined ? undefined : { map: { key, data } };
}

export const readMapData = (cursor: Cursor): unknown => (cursor.is('{') ? readSetText(cursor) : cursor.peek()?.text.startsWith('@') ? cursor.word() : undefined);

/** Weakest first, as nft's grammar has them (src/parser_bison.y, inclusive_or_expr …). */
const SIGNS = [['|'], ['^'], ['&'], ['<<', '>>']] as const;

function readSum(cursor: Cursor, strength: number): unknown {
  const signs = SIGNS[strength];
  if (!signs) return readTerm(cursor);
  let left = readSum(cursor, strength + 1);
  for (;;) {
    const sign = left === undefined ? undefined : cursor.takeOne(signs);
    if (sign === undefined) return left;
    const right = readSum(cursor, strength + 1);
    if (right === undefined) return undefined;
    left = { [sign]: [left, right] };
  }
}

function readTerm(cursor: Cursor): unknown {
  if (cursor.is('(')) {
    return cursor.deeper(() => {
      cursor.next();
      const inner = readSum(cursor, 0);
      return cursor.take(')') ? inner : undefined;
    });
  }
  return cursor.attempt(readField) ?? readValueText(cursor);
}

const BARE_META = new Set(['iif', 'oif', 'iifname', 'oifname', 'iiftype', 'oiftype', 'iifgroup', 'oifgroup', 'skuid', 'skgid', 'rtclassid', 'ibrname', 'obrname', 'mark', 'nftrace']);
const HEADERS = new Set(['ether', 'vlan', 'arp', 'ip', 'ip6', 'icmp', 'icmpv6', 'igmp', 'tcp', 'udp', 'udplite', 'sctp', 'dccp', 'ah', 'esp', 'comp', 'th', 'mh', 'rt0', 'rt2', 'rt4', 'frag', 'hbh', 'dst', 'gre', 'geneve', 'gretap', 'vxlan']);

/** Something that a packet has; undefined for a constant. */
export function readField(cursor: Cursor): unknown {
  const token = cursor.peek();
  if (!token || token.quoted) return undefined;
  const word = token.text;
  cursor.next();
  if (BARE_META.has(word)) return { meta: { key: word } };
  if (/^@(ll|nh|th|ih)$/.test(word)) return readRaw(cursor, word.slice(1));
  switch (word) {
    case 'meta':
      return keyed('meta', cursor.word());
    case 'ct':
      return readCt(cursor);
    case 'fib':
      return readFib(cursor);
    case 'numgen':
      return readNumgen(cursor);
    case 'symhash':
    case 'jhash':
      return readHash(cursor, word);
    case 'exthdr':
      return { exthdr: { name: cursor.word() } };
    case 'rt':
    case 'socket':
    case 'osf':
      return keyed(word, word === 'rt' && (cursor.is('ip') || cursor.is('ip6')) ? `${cursor.word()} ${cursor.word()}` : cursor.word());
  }
  return HEADERS.has(word) ? readHeader(cursor, word) : undefined;
}

const keyed = (name: string, key: string | undefined): unknown => (key === undefined ? undefined : { [name]: { key } });

/** `@ih,0,32` */
function readRaw(cursor: Cursor, base: string): unknown {
  cursor.take(',');
  const offset = Number(cursor.word());
  cursor.take(',');
  return { payload: { base, offset, len: Number(cursor.word()) } };
}

/** `ct state`, `ct original ip saddr`; `ct count` and `ct helper set` are statements. */
function readCt(cursor: Cursor): unknown {
  const dir = cursor.takeOne(['original', 'reply']);
  const family = cursor.takeOne(['ip', 'ip6']);
  const key = cursor.word();
  if (key === undefined || key === 'count') return undefined;
  return { ct: { key: family === undefined ? key : `${family} ${key}`, ...(dir === undefined ? {} : { dir }) } };
}

/** `fib saddr . mark . iif oif` */
function readFib(cursor: Cursor): unknown {
  const flags = [cursor.word()];
  while (cursor.take('.')) flags.push(cursor.word());
  const result = cursor.takeOne(['type', 'oif', 'oifname', 'check']);
  return result === undefined ? undefined : { fib: { result: result === 'check' ? 'oif' : result, flags } };
}

/** `numgen inc mod 3 offset 0` */
function readNumgen(cursor: Cursor): unknown {
  const mode = cursor.takeOne(['inc', 'random']);
  return mode === undefined || !cursor.take('mod') ? undefined : { numgen: { mode, mod: Number(cursor.word()), offset: cursor.take('offset') ? Number(cursor.word()) : 0 } };
}

/** `jhash ip saddr mod 5 seed 0x1 offset 2` */
function readHash(cursor: Cursor, name: string): unknown {
  const of = name === 'jhash' ? cursor.deeper(readExpressionText) : undefined;
  if ((name === 'jhash' && of === undefined) || !cursor.take('mod')) return undefined;
  const mod = Number(cursor.word());
  while (cursor.takeOne(['seed', 'offset']) !== undefined) cursor.word();
  return { [name]: of === undefined ? { mod } : { mod, expr: of } };
}

/** `tcp dport`, `tcp option maxseg size`, `arp saddr ip` */
function readHeader(cursor: Cursor, protocol: string): unknown {
  if (cursor.is('option') && (protocol === 'tcp' || protocol === 'ip')) {
    cursor.next();
    const name = cursor.word();
    return { [`${protocol} option`]: { name, ...(cursor.is('exists') || cursor.is('missing') ? {} : { field: cursor.word() }) } };
  }
  const field = cursor.word();
  if (field === undefined || !/^[a-z][\w-]*$/.test(field)) return undefined;
  if (protocol === 'arp' && (field === 'saddr' || field === 'daddr')) return { payload: { protocol, field: `${field} ${cursor.word()}` } };
  return { payload: { protocol, field } };
}
