import { readExpressionText } from './text-expression.ts';
import { valueOfWord } from './text-value.ts';
import type { Cursor } from './tokens.ts';

/** `dnat ip to 10.0.0.2:80 random`, `redirect to :8080`, `masquerade fully-random`, `dnat to ip saddr map { … }`. */
export function readTranslationText(cursor: Cursor, name: string): unknown {
  const family = cursor.takeOne(['ip', 'ip6']);
  const body: Record<string, unknown> = family === undefined ? {} : { family };
  cursor.takeOne(['addr', 'prefix', 'interval']);
  if (cursor.take('to')) {
    const target = readTarget(cursor);
    if (target === undefined) return undefined;
    Object.assign(body, target);
  }
  while (cursor.takeOne(['random', 'fully-random', 'persistent', ',']) !== undefined) { /* how a port is chosen */ }
  return { [name]: Object.keys(body).length === 0 ? null : body };
}

function readTarget(cursor: Cursor): Record<string, unknown> | undefined {
  const word = cursor.peek()?.text ?? '';
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+(?:-[0-9.]+)?))?(?::(\d+(?:-\d+)?))?$/.exec(word);
  if (found && word !== '') {
    cursor.next();
    const address = found[1] ?? found[2];
    return {
      ...(address === undefined ? {} : { addr: valueOfWord(address, false) }),
      ...(found[3] === undefined ? {} : { port: valueOfWord(found[3], false) }),
    };
  }
  const addr = readExpressionText(cursor);
  if (addr === undefined) return undefined;
  // `dnat ip to ip saddr map { … } : 80`
  const port = cursor.take(':') ? cursor.word() : undefined;
  return port === undefined ? { addr } : { addr, port: valueOfWord(port, false) };
}
