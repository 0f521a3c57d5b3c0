import { ALWAYS, type BaseChain, type Family, type Hook } from 'node-iptables';

/** No name that nft lets a table have. */
export const NOT_LISTED = '(not listed)';

/**
 * Stands for native nftables tables where no program can list them. They cannot undo a drop of another chain; but they
 * may mark a packet, untrack it or send it elsewhere. So at each hook comes, first of all, a chain that may do anything.
 */
export function unlistedTables(family: Family): BaseChain[] {
  const place = { backend: 'nft-native', family: family === 'ipv4' ? 'ip' : 'ip6', table: NOT_LISTED } as const;
  const why = 'native nftables tables could not be listed (nft is not installed)';
  const anything = { place, chain: NOT_LISTED, number: 0, text: `(${why})`, programs: [{ test: ALWAYS, act: { do: 'unread', why } }] } as const;
  return (['prerouting', 'forward', 'postrouting'] satisfies Hook[]).map((hook) => ({
    name: NOT_LISTED,
    place,
    rules: [anything],
    hook,
    priority: -1000,
    type: 'filter',
    policy: { ...anything, programs: [{ test: ALWAYS, act: { do: 'accept' } }] },
    chainNamed: () => undefined,
  }));
}
