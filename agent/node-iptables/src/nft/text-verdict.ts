import type { Cursor } from './tokens.ts';

/** `accept`, `jump c` and their kind as statements; undefined, and nothing taken, for other words. */
export const statementOfVerdict = (cursor: Cursor): Record<string, unknown> | undefined =>
  cursor.attempt(() => {
    const plain = cursor.takeOne(['accept', 'drop', 'return', 'continue']);
    if (plain !== undefined) return { [plain]: null };
    const kind = cursor.takeOne(['jump', 'goto']);
    const target = kind === undefined ? undefined : cursor.word();
    return kind === undefined || target === undefined ? undefined : { [kind]: { target } };
  });
