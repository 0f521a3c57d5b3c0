import { NETLINK_NETFILTER, NFNLGRP_NFTABLES, NLM_F, MESSAGE, RULE, batch, handleOf, listRules, longAttribute, messageBytes, messageType, messagesOf, plainRuleText, readNftEvent, textAttribute } from '../../../agent/node-iptables/src/netlink/index.ts';
import { NetlinkRequests, openEvents } from '../../../agent/node-iptables/src/kernel/index.ts';

/** What the daemon keeps, by the words of the documentation. */
export const DOCUMENTED = '-i eni+ -d 169.254.169.254/32 -j DROP';
const PLACE = { family: 'ip', table: 'filter', chain: 'FORWARD' } as const;
const TEXT = '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP';
/** NFPROTO_IPV4 */
const IPV4 = 2;
const RECEIVE_BYTES = 1 << 26;

/** The documented rule in this network namespace, seen by a netlink socket of our own: whatever the daemon believes. */
export class DocumentedRule {
  /** By which nft and the kernel name the one that is there; undefined while there is none. */
  handle: bigint | undefined;
  private readonly requests: NetlinkRequests;
  private close: () => void = () => {};
  private lostInBatch = false;
  private onBack: ((atMs: number) => void) | undefined;
  private onLost: ((atMs: number) => void) | undefined;

  private constructor(requests: NetlinkRequests) {
    this.requests = requests;
  }

  static async watch(): Promise<DocumentedRule> {
    const rule = new DocumentedRule(await NetlinkRequests.open(NETLINK_NETFILTER));
    const events = await openEvents({ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES], receiveBytes: RECEIVE_BYTES }, {
      message: (datagram) => rule.read(datagram),
      error: (error) => {
        throw error;
      },
    });
    rule.close = () => events.close();
    // One that is there already; an event that comes meanwhile says the same once more.
    rule.requests.list(listRules(PLACE), ({ body }) => {
      if (plainRuleText(body.subarray(4), 'ipv4') === TEXT) rule.handle = handleOf({ attributes: body.subarray(4) });
    });
    return rule;
  }

  /**
   * Deletes it without starting a program. The kernel has done so, and has told everybody, when this returns.
   *
   * @returns when it was gone
   */
  delete(): number {
    const { handle } = this;
    if (handle === undefined) throw new Error('the documented rule is not there');
    this.handle = undefined;
    const body = Buffer.concat([Buffer.from([IPV4, 0, 0, 0]), textAttribute(RULE.TABLE, PLACE.table), textAttribute(RULE.CHAIN, PLACE.chain), longAttribute(RULE.HANDLE, handle)]);
    const { results } = this.requests.ask(...batch(messageBytes({ type: messageType(MESSAGE.DELRULE), flags: NLM_F.REQUEST | NLM_F.ACK, body })));
    const goneMs = performance.now();
    const failure = results.find((errno) => errno !== 0);
    if (failure !== undefined) throw new Error(`the documented rule could not be deleted: errno ${failure}`);
    return goneMs;
  }

  /** When it is back after the next return; asked before it is deleted. */
  back(withinMs: number): Promise<number> {
    return heard((tell) => (this.onBack = tell), withinMs, 'the documented rule did not come back');
  }

  /** When it is lost the next time; asked before. */
  lost(withinMs: number): Promise<number> {
    return heard((tell) => (this.onLost = tell), withinMs, 'nobody deleted the documented rule');
  }

  end(): void {
    this.close();
    this.requests.close();
  }

  private read(datagram: Buffer): void {
    for (const message of messagesOf(datagram)) {
      const event = readNftEvent(message);
      if (event?.is === 'generation') {
        if (this.lostInBatch) this.onLost?.(performance.now());
        this.lostInBatch = false;
      } else if (event?.is === 'rule' && event.family === PLACE.family && event.table === PLACE.table && event.chain === PLACE.chain && plainRuleText(event.attributes, 'ipv4') === TEXT) {
        if (event.change === 'deleted') {
          this.lostInBatch = true;
          this.handle = undefined;
        } else {
          this.handle = handleOf(event);
          this.onBack?.(performance.now());
        }
      }
    }
  }
}

function heard(listen: (tell: (atMs: number) => void) => void, withinMs: number, otherwise: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(otherwise)), withinMs);
    listen((atMs) => {
      clearTimeout(timer);
      resolve(atMs);
    });
  });
}
