import { type Chain, type Family, type NftRule, type NftRuleset, type Rule, type Ruleset, type Table } from 'node-iptables';
import { OWN_TAG } from './desired.ts';
import { FOUND_CHAIN } from './own-rules.ts';

/**
 * A table with one rule that only nft can say is shown empty by iptables-nft-save, though our rules may stand in it. Here
 * such a table gets its chains from nft's listing, so that what is there is not written again, and can be taken away.
 * Rules of the form that we write are read back; every other one only holds its place.
 */
export function withNativeRules(ruleset: Ruleset, nft: NftRuleset | undefined): Ruleset {
  if (ruleset.backend !== 'nft' || ![...ruleset.tables.values()].some(isIncompatible)) return ruleset;
  const tables = [...ruleset.tables].map(([name, table]): [string, Table] => {
    const listed = nft?.tables.find((one) => one.family === NFT_FAMILY[ruleset.family] && one.name === name);
    if (!isIncompatible(table) || !listed) return [name, table];
    const chains = [...listed.chains.values()].map((chain): [string, Chain] => [
      chain.name,
      { name: chain.name, policy: chain.policy?.toUpperCase(), counters: undefined, declared: true, rules: chain.rules.map((rule) => asIptables(rule, ruleset.family)) },
    ]);
    return [name, { ...table, chains: new Map(chains) }];
  });
  return { ...ruleset, tables: new Map(tables) };
}

/** Whether neither iptables nor nft could show a table: then nobody knows what is in it. */
export const isHidden = (ruleset: Ruleset | undefined, table: string): boolean => {
  const there = ruleset?.tables.get(table);
  return there !== undefined && isIncompatible(there) && there.chains.size === 0;
};

const isIncompatible = ({ state }: Table): boolean => state === 'incompatible';
const NFT_FAMILY = { ipv4: 'ip', ipv6: 'ip6' } as const;

function asIptables(rule: NftRule, family: Family): Rule {
  const words = wordsOf(rule, family) ?? ['-m', 'comment', '--comment', 'a rule that only nft can say'];
  return { chain: rule.chain, words, quoted: undefined, counters: undefined };
}

/** `iifname "eni*" ip daddr 169.254.169.254 counter drop` as `-d 169.254.169.254/32 -i eni+ -j DROP`. */
function wordsOf(rule: NftRule, family: Family): string[] | undefined {
  const words: Record<'-d' | '-i' | '-o', string[]> = { '-d': [], '-i': [], '-o': [] };
  const target: string[] = [];
  const comment: string[] = [];
  for (const expression of rule.expressions as readonly Readonly<Record<string, unknown>>[]) {
    const match = expression['match'] as Match | undefined;
    const jump = (expression['jump'] ?? expression['goto']) as { readonly target: string } | undefined;
    if (match) {
      const option = optionOf(match, family);
      if (!option) return undefined;
      words[option[0]] = [...option];
    } else if (jump) target.push('jump' in expression ? '-j' : '-g', jump.target);
    else if ('drop' in expression) target.push('-j', 'DROP');
    else if (isComment(expression['xt'])) comment.push(...commentWords(rule.comment ?? guessed(rule.chain, words['-o'])));
    else if (!('counter' in expression)) return undefined;
  }
  if (comment.length === 0 && rule.comment !== undefined) comment.push(...commentWords(rule.comment));
  return [...words['-d'], ...words['-i'], ...words['-o'], ...comment, ...target];
}

/**
 * `{"xt": {"type": "match", "name": "comment"}}`: nft does not tell which. It is taken for ours; should it be another, a
 * delete by value does not find it, and says so.
 */
const isComment = (xt: unknown): boolean => typeof xt === 'object' && xt !== null && 'name' in xt && xt.name === 'comment';
const guessed = (chain: string, out: readonly string[]): string => (chain !== FOUND_CHAIN ? OWN_TAG : out.length > 0 ? 'POSTROUTING' : 'FORWARD');
const commentWords = (comment: string): string[] => ['-m', 'comment', '--comment', comment];

/** `{"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eni*"}` */
interface Match {
  readonly op: string;
  readonly left: { readonly meta?: { readonly key: string }; readonly payload?: { readonly protocol: string; readonly field: string } };
  readonly right: unknown;
}

function optionOf({ op, left, right }: Match, family: Family): readonly ['-d' | '-i' | '-o', string] | undefined {
  if (op !== '==' || typeof right !== 'string') return undefined;
  if (left.payload?.protocol === NFT_FAMILY[family] && left.payload.field === 'daddr') return ['-d', `${right}/${family === 'ipv4' ? 32 : 128}`];
  if (left.meta?.key === 'iifname') return ['-i', right.replace(/\*$/, '+')];
  return left.meta?.key === 'oifname' ? ['-o', right.replace(/\*$/, '+')] : undefined;
}
