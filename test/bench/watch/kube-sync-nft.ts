import { type Service, chainHash, endpointsOf, nameOf } from './kube-sync.ts';

const TABLE = 'ip kube-proxy';

/** What kube-proxy in nftables mode writes once (pkg/proxy/nftables/proxier.go, setupNFTables): its chains, sets and maps. */
export const KUBE_NFT_TABLE = `
table ip kube-proxy {
  comment "rules for kube-proxy"
  set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; }
  set nodeport-ips { type ipv4_addr; comment "IPs that accept NodePort traffic"; elements = { 10.0.0.10 } }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; comment "ClusterIP, ExternalIP and LoadBalancer IP traffic"; }
  map service-nodeports { type inet_proto . inet_service : verdict; comment "NodePort traffic"; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; comment "vmap to drop or reject packets to services with no endpoints"; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; comment "destinations that are subject to LoadBalancerSourceRanges"; }
  chain filter-prerouting { type filter hook prerouting priority dstnat - 10; ct state new jump firewall-check; }
  chain filter-input { type filter hook input priority -110; ct state new jump service-endpoints-check; }
  chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
  chain filter-output { type filter hook output priority -110; ct state new jump service-endpoints-check; ct state new jump firewall-check; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain cluster-ips-check {
    ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
    ip daddr 172.20.0.0/16 drop comment "Drop traffic to unallocated ClusterIPs"
  }
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
}
`;

/** One sync: each service's chains are emptied and written again, and its address is put into the maps once more. */
export function kubeNftSync(services: readonly Service[]): string {
  return services
    .flatMap((service) => {
      const chains = endpointsOf(service).map((endpoint) => ({ endpoint, chain: `endpoint-${chainHash(service.number).slice(-8)}-shop/cart-${service.number}/tcp/http__${endpoint}/8080` }));
      const own = `service-${chainHash(service.number).slice(-8)}-shop/cart-${service.number}/tcp/http`;
      return [
        ...chains.flatMap(({ endpoint, chain }) => [
          `add chain ${TABLE} ${chain}`,
          `flush chain ${TABLE} ${chain}`,
          `add rule ${TABLE} ${chain} ip saddr ${endpoint} jump mark-for-masquerade comment "masquerade hairpin traffic"`,
          `add rule ${TABLE} ${chain} meta l4proto tcp dnat to ${endpoint}:8080`,
        ]),
        `add chain ${TABLE} ${own} { comment "${nameOf(service)}"; }`,
        `flush chain ${TABLE} ${own}`,
        `add rule ${TABLE} ${own} ip daddr ${service.address} tcp dport 80 ip saddr != 10.0.0.0/8 jump mark-for-masquerade`,
        `add rule ${TABLE} ${own} numgen random mod ${chains.length} vmap { ${chains.map(({ chain }, at) => `${at} : goto ${chain}`).join(', ')} }`,
        `add element ${TABLE} cluster-ips { ${service.address} }`,
        `add element ${TABLE} service-ips { ${service.address} . tcp . 80 : goto ${own} }`,
        ...(service.nodePort === undefined ? [] : [`add element ${TABLE} service-nodeports { tcp . ${service.nodePort} : goto ${own} }`]),
      ];
    })
    .join('\n');
}
