import { NETLINK_NETFILTER, NFNLGRP_NFTABLES, NLM_F, MESSAGE, RULE, batch, handleOf, listRules, longAttribute, messageBytes, messageType, messagesOf, plainRuleText, readNftEvent, textAttribute } from '../../../agent/node-iptables/src/netlink/index.ts';
import { ERRNO, KernelError, NetlinkRequests, openEvents } from '../../../agent/node-iptables/src/kernel/index.ts';

/** What the daemon keeps, by the words of the documentation. */
export const DOCUMENTED = '-i eni+ -d 169.254.169.254/32 -j DROP';
const PLACE = { family: 'ip', table: 'filter', chain: 'FORWARD' } as const;
const TEXT = '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP';
/** NFPROTO_IPV4 */
const IPV4 = 2;
const RECEIVE_BYTES = 1 << 26;

/** The documented rule in this network namespace, seen by a netlink socket of our own: whatever the daemon believes. */
export class DocumentedRule {
  private readonly requests: NetlinkRequests;
  private close: () => void = () => {};
  /** Of every copy: a look and a repair that meet may leave two for a moment. */
  private readonly handles = new Set<bigint>();
  private onBack: ((atMs: number) => void) | undefined;

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
    rule.list();
    return rule;
  }

  /** By which nft and the kernel name it, the one that was written last; undefined while there is none. */
  get handle(): bigint | undefined {
    return [...this.handles].at(-1);
  }

  /**
   * Deletes it without starting a program. The kernel has done so, and has told everybody, when this returns.
   *
   * @returns when it was gone
   */
  delete(): number {
    for (;;) {
      // Of two copies the daemon takes one away itself; that there is another may be news that has not come yet.
      if (this.handle === undefined) this.list();
      const { handle } = this;
      if (handle === undefined) throw new Error('the documented rule is not there');
      this.handles.delete(handle);
      const failure = this.requests.ask(...batch(deletion(handle))).results.find((errno) => errno !== 0);
      if (failure === undefined) return performance.now();
      if (failure !== ERRNO.ENOENT) throw new KernelError('the documented rule could not be deleted', failure);
    }
  }

  /** When it is back after the next return; asked before it is deleted. */
  back(withinMs: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the documented rule did not come back')), withinMs);
      this.onBack = (atMs) => {
        clearTimeout(timer);
        resolve(atMs);
      };
    });
  }

  end(): void {
    this.close();
    this.requests.close();
  }

  private list(): void {
    this.requests.list(listRules(PLACE), ({ body }) => {
      if (plainRuleText(body.subarray(4), 'ipv4') === TEXT) this.handles.add(handleOf({ attributes: body.subarray(4) })!);
    });
  }

  private read(datagram: Buffer): void {
    for (const message of messagesOf(datagram)) {
      const event = readNftEvent(message);
      if (event?.is !== 'rule' || event.family !== PLACE.family || event.table !== PLACE.table || event.chain !== PLACE.chain) continue;
      if (plainRuleText(event.attributes, 'ipv4') !== TEXT) continue;
      const handle = handleOf(event)!;
      if (event.change === 'deleted') this.handles.delete(handle);
      else {
        this.handles.add(handle);
        this.onBack?.(performance.now());
      }
    }
  }
}

function deletion(handle: bigint): Buffer {
  const body = Buffer.concat([Buffer.from([IPV4, 0, 0, 0]), textAttribute(RULE.TABLE, PLACE.table), textAttribute(RULE.CHAIN, PLACE.chain), longAttribute(RULE.HANDLE, handle)]);
  return messageBytes({ type: messageType(MESSAGE.DELRULE), flags: NLM_F.REQUEST | NLM_F.ACK, body });
}
