/** How many routers the answer to a PUT passes, and not one more. */
export type HopLimit = number | 'none';

/**
 * The real service limits the TTL of the packets that answer the PUT, and no others; Node cannot set IP_TTL, so rules in
 * the imds namespace do. `@ih,0,32` is the first four bytes of the TCP payload: "PUT " marks the connection, "GET " clears it.
 *
 * By the address of the client; the empty one stands for everybody else.
 */
export function hopLimitScript(limits: ReadonlyMap<string, HopLimit>): string {
  const anew = 'table inet hop-limit\ndelete table inet hop-limit\n';
  const everybody = limits.get('') ?? 'none';
  const some = [...limits].filter(([address]) => address !== '');
  if (everybody === 'none' && some.every(([, hops]) => hops === 'none')) return anew;
  return `${anew}
    table inet hop-limit {
      chain asked {
        type filter hook input priority mangle
        tcp dport 80 @ih,0,32 0x50555420 ct mark set 1
        tcp dport 80 @ih,0,32 0x47455420 ct mark set 0
      }
      chain answered {
        type filter hook output priority mangle
        tcp sport != 80 accept
        ct mark != 1 accept
        ${some.map(([address, hops]) => `${address.includes(':') ? 'ip6' : 'ip'} daddr ${address} ${setTo(hops, address.includes(':') ? 6 : 4)} accept`).join('\n        ')}
        ${everybody === 'none' ? '' : `meta nfproto ipv4 ${setTo(everybody, 4)}\n        meta nfproto ipv6 ${setTo(everybody, 6)}`}
      }
    }
`;
}

const setTo = (hops: HopLimit, family: 4 | 6): string => (hops === 'none' ? '' : family === 4 ? `ip ttl set ${hops}` : `ip6 hoplimit set ${hops}`);
