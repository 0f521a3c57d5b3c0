import { CHAIN, HOOK, type Message, type NftEvent, RuleSignature, TABLE, type ChainPlace, attributesOf, batch, deleteRule, getGeneration, handleOf, listChains, listRules, listTables, mayConcern, newBaseChain, newChain, newTable, looksUpAnonymousSet, numberOf, plainRuleText, readNftEvent, sameRule, textOf } from 'node-iptables/netlink';
import { ERRNO, KernelError, type NetlinkRequests } from 'node-iptables/kernel';
import { OWN_CHAIN } from '../core/desired.ts';
import { IMDS_DESTINATIONS, type OwnRule } from '../core/watch/outlook.ts';
import type { LostRule } from '../core/watch/transaction.ts';

/** The rules that iptables-nft keeps in nf_tables, as the kernel has them: read and put back without starting a program. */
export class KernelRules {
  private readonly requests: NetlinkRequests;

  constructor(requests: NetlinkRequests) {
    this.requests = requests;
  }

  get port(): number {
    return this.requests.port;
  }

  /**
   * Writes rules again that somebody deleted, in the very bytes they had. Where their table went too, it is made as
   * iptables-nft makes it: base chains at their usual place, policy accept.
   *
   * @returns undefined when they are there; otherwise why not
   */
  putBack(lost: readonly LostRule[]): string | undefined {
    try {
      return this.write(lost);
    } catch (error) {
      if (error instanceof KernelError) return error.message;
      throw error;
    }
  }

  private write(lost: readonly LostRule[]): string | undefined {
    const rules = lost.map(({ rule, attributes }) => sameRule(rule, attributesOf(attributes), rule.position));
    const first = this.failureOf(batch(...rules));
    if (first !== ERRNO.ENOENT) return first === undefined ? undefined : new KernelError('nf_tables', first).code;
    const again = this.failureOf(batch(...lost.flatMap(({ rule }) => [newTable(rule), ...homeOf(rule)]), ...rules));
    return again === undefined ? undefined : new KernelError('nf_tables', again).code;
  }

  /**
   * Where a rule is there more than once, takes those with the given handles away, but for one that stays. Should somebody delete
   * the others at the same moment, it is written again.
   */
  dropDoubles(rule: OwnRule, handles: ReadonlySet<bigint>): ReadonlySet<bigint> {
    try {
      const copies = this.copiesOf(rule);
      const ours = copies.map(({ handle }) => handle).filter((handle) => handles.has(handle));
      const tooMany = ours.slice(0, copies.length - 1);
      if (tooMany.length === 0) return new Set(ours);
      this.failureOf(batch(...tooMany.map((handle) => deleteRule(rule, handle))));
      if (this.copiesOf(rule).length === 0) this.write([{ rule, attributes: copies[0]!.attributes }]);
      return new Set(ours.slice(tooMany.length));
    } catch (error) {
      if (error instanceof KernelError) return handles;
      throw error;
    }
  }

  private copiesOf(rule: OwnRule): { readonly handle: bigint; readonly attributes: Buffer }[] {
    const copies: { handle: bigint; attributes: Buffer }[] = [];
    this.requests.list(listRules(rule), ({ body }) => {
      const attributes = body.subarray(4);
      if (plainRuleText(attributes, rule.family === 'ip' ? 'ipv4' : 'ipv6') === rule.text) copies.push({ handle: handleOf({ attributes }) ?? 0n, attributes: Buffer.from(attributes) });
    });
    return copies;
  }

  /** What the rules of a chain say that may concern a packet to IMDS: the same text for the same rules. */
  signatureOf(chain: ChainPlace): string {
    const signature = new RuleSignature();
    let elsewhere = false;
    const failed = this.requests.list(listRules(chain), ({ body }) => {
      const attributes = body.subarray(4);
      if (!mayConcern(attributes, chain.family, IMDS_DESTINATIONS)) return;
      elsewhere ||= looksUpAnonymousSet(attributes);
      signature.add(attributes);
    });
    // A list that changed while it was read is like no other; so is one that cannot be read, and rules that say what they say in
    // an anonymous set: the kernel gives its name to the next one.
    return failed === undefined && !elsewhere ? signature.text() : `${String(failed)} ${this.generation() ?? ''}`;
  }

  /** Every table's flags and every base chain's place and policy, as one text. */
  structure(): string {
    const parts: string[] = [];
    this.requests.list(listTables(), ({ body }) => {
      const attributes = attributesOf(body, 4);
      parts.push(`${body[0]} ${textOf(attributes.get(TABLE.NAME))} ${numberOf(attributes.get(TABLE.FLAGS))}`);
    });
    this.requests.list(listChains(), (message) => {
      const text = baseChainText(message);
      if (text !== undefined) parts.push(text);
    });
    return parts.sort().join('\n');
  }

  generation(): number | undefined {
    return this.askGeneration()?.id;
  }

  /** The number by which the kernel knows this process: it answers whoever asks for the generation with the asker's own. */
  ownPid(): number | undefined {
    return this.askGeneration()?.pid;
  }

  private askGeneration(): Extract<NftEvent, { is: 'generation' }> | undefined {
    const answer = this.requests.ask(getGeneration()).messages.map(readNftEvent)[0];
    return answer?.is === 'generation' ? answer : undefined;
  }

  private failureOf(messages: readonly Buffer[]): number | undefined {
    return this.requests.ask(...messages).results.find((errno) => errno !== 0);
  }
}

/** `nft_chains` of iptables-nft (iptables/nft.c): where its tables have the base chains that rules of ours stand in. */
function homeOf({ family, table, chain }: LostRule['rule']): Buffer[] {
  if (chain === OWN_CHAIN) return [newChain({ family, table, chain })];
  const hook = chain === 'POSTROUTING' ? 'postrouting' : 'forward';
  return [newBaseChain({ family, table, chain, type: 'filter', hook, priority: table === 'mangle' ? -150 : 0 })];
}

function baseChainText({ body }: Message): string | undefined {
  const attributes = attributesOf(body, 4);
  const hook = attributes.get(CHAIN.HOOK);
  if (!hook) return undefined;
  const at = attributesOf(hook);
  return [body[0], textOf(attributes.get(CHAIN.TABLE)), textOf(attributes.get(CHAIN.NAME)), numberOf(at.get(HOOK.NUMBER)), numberOf(at.get(HOOK.PRIORITY)), numberOf(attributes.get(CHAIN.POLICY)), textOf(attributes.get(CHAIN.TYPE))].join(' ');
}
