import type { LinkEvent } from 'node-iptables/netlink';
import { isOfPattern } from '../targets.ts';

type Link = Extract<LinkEvent, { is: 'link' }>;

/**
 * What an event says about pods: nothing; that a link came or went, or a pod's changed; that there is a kind we have no pattern
 * for. A macvlan that leaves for a pod's namespace is only seen to go.
 */
export type LinkChange = 'nothing' | 'pod' | 'unknown-kind';

/** The links of the node, kept up to date from events, to tell which events matter. The kernel tells of every counter and carrier. */
export class LinkTable {
  private readonly links = new Map<number, Link>();

  /** @param patterns of pod interfaces */
  apply(event: LinkEvent, patterns: readonly string[]): LinkChange {
    if (event.is === 'filter') {
      const link = this.links.get(event.index);
      return event.index === SHARED_BLOCK || (link && isOurs(link, patterns)) ? 'pod' : 'nothing';
    }
    const before = this.links.get(event.index);
    if (event.change === 'deleted') this.links.delete(event.index);
    else this.links.set(event.index, event);
    if (event.change === 'new' && before && sameLink(before, event)) return 'nothing';
    if (isOurs(event, patterns) || (before && isOurs(before, patterns))) return 'pod';
    const leadsToPod = event.change === 'new' && event.kind === 'veth' && event.elsewhere && event.master === 0;
    // A pod's port that joins a bridge, or an uplink that does, opens a way past every hook of IP.
    const bridged = event.master !== (before?.master ?? 0);
    if (leadsToPod || bridged) return 'unknown-kind';
    return before === undefined || event.change === 'deleted' ? 'pod' : 'nothing';
  }

  get size(): number {
    return this.links.size;
  }
}

/** TCM_IFINDEX_MAGIC_BLOCK: a filter of a block that several links share. */
const SHARED_BLOCK = -1;

const isOurs = ({ name }: Link, patterns: readonly string[]): boolean => patterns.some((pattern) => isOfPattern(pattern, name));
const sameLink = (a: Link, b: Link): boolean => a.name === b.name && a.kind === b.kind && a.master === b.master && a.elsewhere === b.elsewhere && a.xdp === b.xdp;
