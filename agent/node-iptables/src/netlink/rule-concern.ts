import type { NftFamily } from '../nft/model.ts';
import { type Expression, CMP, FIELD, META, comparison, expressionsOf, loadedField, loadedMeta } from './expression.ts';
import { attributesOf, eachAttribute, textOf } from './message.ts';
import { RULE } from './nf-tables.ts';

/** The destinations that somebody cares about, as they stand in a packet. */
export interface Destinations {
  readonly ipv4: Buffer;
  readonly ipv6: Buffer;
}

/**
 * Whether a rule may do anything to a packet for one of the destinations. False only where, before anything else happens, it
 * compares the destination with another one. In a sync of kube-proxy that is all but a few of thousands of rules.
 */
export function mayConcern(attributes: Buffer, family: NftFamily, to: Destinations): boolean {
  let ipv6: boolean | undefined = family === 'ip6' ? true : family === 'ip' ? false : undefined;
  const expressions = expressionsOf(attributesOf(attributes).get(RULE.EXPRESSIONS));
  for (let at = 0; at < expressions.length; at++) {
    const one = expressions[at]!;
    if (one.name === 'counter' || one.name === 'cmp' || one.name === 'bitwise' || isCommentOrPort(one)) continue;
    if (!isLoad(one)) return true;
    const next = expressions[at + 1];
    const masked = next?.name === 'bitwise' ? maskOf(next) : undefined;
    const compared = comparison(expressions[at + (next?.name === 'bitwise' ? 2 : 1)] ?? NOTHING);
    if (loadedMeta(one) === META.NFPROTO && compared?.op === CMP.EQUAL) ipv6 = compared.value[0] === 10 ? true : compared.value[0] === 2 ? false : undefined;
    if (ipv6 === undefined || !compared || (next?.name === 'bitwise' && !masked)) continue;
    if (!isDestination(loadedField(one), ipv6)) continue;
    const wanted = (ipv6 ? to.ipv6 : to.ipv4).subarray(0, compared.value.length).map((byte, index) => byte & (masked?.[index] ?? 0xff));
    const same = compared.value.equals(wanted);
    if (compared.op === CMP.EQUAL ? !same : compared.op === NOT_EQUAL && same) return false;
  }
  return true;
}

const NOT_EQUAL = 1;
const NOTHING: Expression = { name: '', data: Buffer.alloc(0) };

/** Loads put something into a register; the same names with a source register change the packet. */
const isLoad = (one: Expression): boolean => (one.name === 'payload' || one.name === 'meta') && attributesOf(one.data).has(1) && !(one.name === 'meta' && attributesOf(one.data).has(3));

/** nft compares a prefix of whole bytes with so many bytes of the address. */
function isDestination(field: ReturnType<typeof loadedField>, ipv6: boolean): boolean {
  const [base, offset, length] = FIELD[ipv6 ? 'ipv6' : 'ipv4'].destination;
  return field !== undefined && field[0] === base && field[1] === offset && field[2] <= length;
}

/** Extensions of iptables that only look: a rule goes on to the next expression or ends. */
const isCommentOrPort = (one: Expression): boolean => one.name === 'match' && PASSIVE.has(textOf(attributesOf(one.data).get(1)));
const PASSIVE: ReadonlySet<string> = new Set(['comment', 'tcp', 'udp', 'addrtype', 'conntrack', 'mark', 'multiport', 'icmp', 'state']);

/** NFTA_BITWISE_MASK; with an XOR of nothing. */
function maskOf({ data }: Expression): Buffer | undefined {
  const parts = attributesOf(data);
  const value = (type: number): Buffer | undefined => attributesOf(parts.get(type) ?? Buffer.alloc(0)).get(1);
  return value(5)?.every((byte) => byte === 0) ? value(4) : undefined;
}

/** Whether a rule has a list of its own (`tcp dport { 80, 443 }`): an anonymous set, whose elements are not in the rule. */
export const looksUpAnonymousSet = (attributes: Buffer): boolean =>
  // NFTA_LOOKUP_SET
  expressionsOf(attributesOf(attributes).get(RULE.EXPRESSIONS)).some(({ name, data }) => name === 'lookup' && textOf(attributesOf(data).get(1)).startsWith('__'));

/** A running hash (FNV-1a, two lanes of 32 bits) of what rules say, counters left out: equal for a rule that was deleted and written again. */
export class RuleSignature {
  private low = 0x811c9dc5;
  private high = 0x1234567;

  add(attributes: Buffer): void {
    const parts = attributesOf(attributes);
    eachAttribute(parts.get(RULE.EXPRESSIONS) ?? Buffer.alloc(0), 0, (_, element) => {
      const inner = attributesOf(element);
      if (textOf(inner.get(1)) !== 'counter') this.bytes(element);
    });
    this.bytes(parts.get(RULE.USERDATA) ?? Buffer.alloc(0));
    this.bytes(SEPARATOR);
  }

  text(): string {
    return `${(this.low >>> 0).toString(16)}-${(this.high >>> 0).toString(16)}`;
  }

  private bytes(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at++) {
      this.low = Math.imul(this.low ^ bytes[at]!, 0x01000193);
      this.high = Math.imul(this.high ^ bytes[at]!, 0x85ebca6b) + 0x9e3779b9;
    }
  }
}
const SEPARATOR = Buffer.from([0xff, 0x00]);
