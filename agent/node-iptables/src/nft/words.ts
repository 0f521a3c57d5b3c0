import { isObject, listOf, member, nameOf, textOf } from './json.ts';

/** A rule's statements as nft writes them, near enough for a person; what has no form here is shown as JSON. */
export const ruleWords = (expressions: readonly unknown[], comment?: string): string =>
  [...expressions.map(statementWords), ...(comment === undefined ? [] : [`comment "${comment}"`])].join(' ');

/** `{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}` is `iifname "eth0"`. */
export function statementWords(statement: unknown): string {
  if (typeof statement === 'string') return statement.replace(/\s+/g, ' ');
  const name = nameOf(statement);
  const body = member(statement, name ?? '');
  switch (name) {
    case 'unread':
      return String(body);
    case 'match': {
      const op = textOf(member(body, 'op')) ?? '==';
      const shown = op === '==' || op === 'in' ? '' : `${op} `;
      const right = member(body, 'right');
      return `${valueWords(member(body, 'left'))} ${shown}${Array.isArray(right) ? right.map(valueWords).join(',') : valueWords(right)}`;
    }
    case 'vmap':
      return `${valueWords(member(body, 'key'))} vmap ${valueWords(member(body, 'data'))}`;
    case 'mangle':
      return `${valueWords(member(body, 'key'))} set ${valueWords(member(body, 'value'))}`;
    case 'counter':
      return typeof body === 'string' ? `counter name "${body}"` : 'counter';
    case 'jump':
    case 'goto':
      return `${name} ${String(member(body, 'target'))}`;
    case 'set':
    case 'map':
      return `${String(member(body, 'op'))} ${String(member(body, name))} { ${[valueWords(member(body, 'elem')), ...listOf(member(body, 'stmt')).map(statementWords)].join(' ')} }`;
    case 'reject':
      return `reject${isObject(body) ? ` with ${[body['type'], body['expr']].filter((part) => part !== undefined).join(' ')}` : ''}`;
    case 'limit':
      if (typeof body === 'string') return `limit name "${body}"`;
      if (isObject(body)) return `limit rate ${body['inv'] === true ? 'over ' : ''}${String(body['rate'])}/${String(body['per'])}`;
      break;
    case 'dnat':
    case 'snat':
    case 'redirect':
    case 'masquerade':
    case 'tproxy':
      return natWords(name, body);
    case 'log':
      return isObject(body) && body['prefix'] !== undefined ? `log prefix "${String(body['prefix'])}"` : 'log';
  }
  if (name !== undefined && (body === null || body === undefined)) return name;
  return JSON.stringify(statement) ?? '';
}

function natWords(name: string, body: unknown): string {
  const address = member(body, 'addr');
  const port = member(body, 'port');
  const shown = address === undefined ? '' : valueWords(address);
  const to = `${port !== undefined && /^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(shown) ? `[${shown}]` : shown}${port === undefined ? '' : `:${valueWords(port)}`}`;
  return [name, textOf(member(body, 'family')), to === '' ? undefined : `to ${to}`].filter((part) => part !== undefined).join(' ');
}

/** One side of a match, or an element. Strings that nft would quote are interface names, and they are not told apart. */
export function valueWords(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? 'exists' : 'missing';
  if (Array.isArray(value)) return value.length === 2 && isObject(value[1]) ? `${valueWords(value[0])} : ${valueWords(value[1])}` : value.map(valueWords).join(', ');
  const name = nameOf(value);
  const body = member(value, name ?? '');
  switch (name) {
    case 'meta': {
      const key = String(member(body, 'key'));
      return key === 'iifname' || key === 'oifname' || key === 'iif' || key === 'oif' ? key : `meta ${key}`;
    }
    case 'ct':
      return ['ct', textOf(member(body, 'dir')), String(member(body, 'key'))].filter((part) => part !== undefined).join(' ');
    case 'payload':
      if (isObject(body) && 'base' in body) return `@${String(body['base'])},${String(body['offset'])},${String(body['len'])}`;
      return `${String(member(body, 'protocol'))} ${String(member(body, 'field'))}`;
    case 'socket':
      return `socket ${String(member(body, 'key'))}${member(body, 'level') === undefined ? '' : ` level ${String(member(body, 'level'))}`}`;
    case 'fib':
      return `fib ${listOf(member(body, 'flags')).join(' . ')} ${String(member(body, 'result'))}`;
    case 'prefix':
      return `${valueWords(member(body, 'addr'))}/${String(member(body, 'len'))}`;
    case 'range':
      return listOf(body).map(valueWords).join('-');
    case 'concat':
      return listOf(body).map(valueWords).join(' . ');
    case 'set':
      return `{ ${listOf(body).map((item) => (Array.isArray(item) ? `${valueWords(item[0])} : ${dataWords(item[1])}` : valueWords(item))).join(', ')} }`;
    case 'elem':
      return valueWords(member(body, 'val'));
    case 'map':
      return `${valueWords(member(body, 'key'))} map ${valueWords(member(body, 'data'))}`;
    case '&':
    case '|':
    case '^':
    case '<<':
    case '>>':
      return listOf(body).map((side) => (Array.isArray(side) ? `(${side.map(valueWords).join('|')})` : valueWords(side))).join(` ${name} `);
  }
  return JSON.stringify(value) ?? '';
}

const dataWords = (data: unknown): string => (isObject(data) ? statementWords(data) : valueWords(data));
