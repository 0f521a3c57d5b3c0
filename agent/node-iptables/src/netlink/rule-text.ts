import { type Family, formatAddress } from '../sets/address.ts';
import { type Expression, CMP, FIELD, META, VERDICT_CODE, comparison, expressionsOf, loadedField, loadedMeta, sameField, verdictOf } from './expression.ts';
import { attributesOf, textOf } from './message.ts';
import { RULE } from './nf-tables.ts';

/**
 * A rule in the bytes that iptables-nft gave it, as the line that iptables-save would print, when it is of the plain kind:
 * one destination address, an in- or out-interface, a comment, and DROP or a jump. Undefined for every other rule; none
 * is ever read as something that it is not. Seen: iptables 1.8.9 (comment as an extension) and 1.8.11.
 */
export function plainRuleText(attributes: Buffer, family: Family): string | undefined {
  const parts = attributesOf(attributes);
  const expressions = expressionsOf(parts.get(RULE.EXPRESSIONS));
  const words = { '-d': '', '-i': '', '-o': '', comment: '', target: '' };
  for (let at = 0; at < expressions.length; at++) {
    const one = expressions[at]!;
    const compared = comparison(expressions[at + 1] ?? NOTHING);
    if (one.name === 'counter') continue;
    if (one.name === 'payload' || one.name === 'meta') {
      if (compared?.op !== CMP.EQUAL) return undefined;
      if (sameField(loadedField(one), FIELD[family].destination) && words['-d'] === '') words['-d'] = ` -d ${addressText(family, compared.value)}/${family === 'ipv4' ? 32 : 128}`;
      else if (loadedMeta(one) === META.IIFNAME && words['-i'] === '') words['-i'] = ` -i ${interfaceText(compared.value)}`;
      else if (loadedMeta(one) === META.OIFNAME && words['-o'] === '') words['-o'] = ` -o ${interfaceText(compared.value)}`;
      else return undefined;
      at++;
    } else if (one.name === 'match') {
      const match = attributesOf(one.data);
      // NFTA_MATCH_NAME, NFTA_MATCH_INFO: struct xt_comment_info is the text itself, padded to 256 bytes.
      if (textOf(match.get(1)) !== 'comment' || words.comment !== '') return undefined;
      words.comment = textOf(match.get(3));
    } else {
      const verdict = verdictOf(one);
      if (!verdict || words.target !== '') return undefined;
      if (verdict.code === VERDICT_CODE.DROP) words.target = ' -j DROP';
      else if (verdict.code === VERDICT_CODE.JUMP) words.target = ` -j ${verdict.chain}`;
      else return undefined;
    }
  }
  if (!/^[\w.:-]*$/.test(words.comment) || words.target === '') return undefined;
  return `-A ${textOf(parts.get(RULE.CHAIN))}${words['-d']}${words['-i']}${words['-o']}${words.comment === '' ? '' : ` -m comment --comment ${words.comment}`}${words.target}`;
}

const NOTHING: Expression = { name: '', data: Buffer.alloc(0) };

/** A whole name is compared with its final NUL, the beginning of one without. */
const interfaceText = (value: Buffer): string => (value.includes(0) ? textOf(value) : `${value.toString('latin1')}+`);

const addressText = (family: Family, value: Buffer): string => formatAddress(family, family === 'ipv4' ? value.readUInt32BE(0) : BigInt(`0x${value.toString('hex')}`));
