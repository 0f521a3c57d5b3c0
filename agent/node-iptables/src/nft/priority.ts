import type { NftFamily } from './model.ts';

/** nft(8), CHAINS, tables 6 and 7. */
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, dstnat: -100, filter: 0, security: 50, srcnat: 100 };
const BRIDGE_PRIORITIES: Readonly<Record<string, number>> = { dstnat: -300, filter: -200, out: 100, srcnat: 300 };

/** `filter`, `-5`, `srcnat + 10`, `mangle - 5`; undefined for words that are no priority. */
export function priorityOf(words: readonly string[], family: NftFamily): number | undefined {
  const found = /^(?:(-?\d{1,10})|([a-z]+)(?:([+-])(\d{1,10}))?)$/.exec(words.join(''));
  if (!found) return undefined;
  if (found[1] !== undefined) return Number(found[1]);
  const named = family === 'bridge' ? BRIDGE_PRIORITIES : PRIORITIES;
  if (!Object.hasOwn(named, found[2]!)) return undefined;
  return named[found[2]!]! + (found[3] === '-' ? -1 : 1) * Number(found[4] ?? 0);
}
