/** Tables of any size as iptables-save prints them: the same number gives the same bytes. */
export type Shape = (rules: number) => string;

/** `-s X -d Y -p tcp --dport N -j ACCEPT`: a glance at the addresses settles every rule. */
export const flat: Shape = (rules) =>
  filterTable(times(rules, (at) => `-A FORWARD -s ${pod(at)}/32 -d ${service(at)}/32 -p tcp -m tcp --dport ${port(at)} -j ACCEPT`));

/** Nothing to glance at, and comments in quotes: every rule has to be cut into words and read. */
export const portsWithComments: Shape = (rules) =>
  filterTable(times(rules, (at) => `-A FORWARD -p tcp -m comment --comment "shop/cart-${at} port \\"http\\"" -m tcp --dport ${port(at)} -j ACCEPT`));

/** Every rule takes some of the packets asked about. */
export const hostileAccepts: Shape = (rules) => filterTable(times(rules, (at) => `-A FORWARD -s ${pod(at)}/32 -j ACCEPT`));
export const hostileDrops: Shape = (rules) => filterTable(times(rules, (at) => `-A FORWARD -s ${pod(at)}/32 -j DROP`));

/**
 * What kube-proxy, kube-router and Calico make of a busy node: 2 rules and a chain for each service, 7 rules and a chain
 * for each pod, jumps by address, connection states, marks, comments.
 */
export const kube: Shape = (rules) => {
  const left = Math.max(0, rules - PRELUDE.length);
  const services = times(Math.floor((left * 0.4) / 2), (at) => at);
  const pods = times(Math.floor((left - services.length * 2) / 7), (at) => at);
  const rest = left - services.length * 2 - pods.length * 7;
  return filterTable(
    [
      ...PRELUDE,
      ...pods.map((at) => `-A KUBE-ROUTER-FORWARD -s ${pod(at)}/32 -m comment --comment "rule to jump traffic from POD name:cart-${at} namespace: shop to chain KUBE-POD-FW-${name(at)}" -j KUBE-POD-FW-${name(at)}`),
      ...services.map((at) => `-A KUBE-SERVICES -d ${service(at)}/32 -p tcp -m comment --comment "shop/cart-${at}:http cluster IP" -m tcp --dport ${port(at)} -j KUBE-SVC-${name(at)}`),
      ...times(rest, (at) => `-A KUBE-EXTERNAL-SERVICES -d ${service(at)}/32 -p tcp -m comment --comment "shop/gone-${at}:http has no endpoints" -m tcp --dport ${port(at)} -j REJECT --reject-with icmp-port-unreachable`),
      ...pods.flatMap(podRules),
      ...services.map((at) => `-A KUBE-SVC-${name(at)} -m comment --comment "shop/cart-${at}:http" -m conntrack --ctstate NEW -j ACCEPT`),
    ],
    [...CHAINS, ...pods.map((at) => `KUBE-POD-FW-${name(at)}`), ...services.map((at) => `KUBE-SVC-${name(at)}`)],
  );
};

/** The same node after `imds-guard apply`. */
export const kubeWithOurs: Shape = (rules) =>
  kube(rules - 3).replace('-A FORWARD', '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP\n-A FORWARD') +
  [
    '*mangle',
    ...['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'].map((chain) => `:${chain} ACCEPT [0:0]`),
    '-A FORWARD -d 169.254.169.254/32 -m comment --comment imds-guard -j DROP',
    '-A POSTROUTING -d 169.254.169.254/32 -o vlan+ -j DROP',
    'COMMIT',
    '',
  ].join('\n');

const CHAINS = ['KUBE-SERVICES', 'KUBE-EXTERNAL-SERVICES', 'KUBE-FORWARD', 'KUBE-FIREWALL', 'KUBE-ROUTER-FORWARD', 'KUBE-NWPLCY-DEFAULT', 'cali-FORWARD'];
const PRELUDE = [
  '-A INPUT -m comment --comment "kubernetes node firewall" -j KUBE-FIREWALL',
  '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
  '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
  '-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
  '-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
  '-A FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD',
  '-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
  '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
  '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
  '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
  '-A KUBE-NWPLCY-DEFAULT -m comment --comment "rule to mark traffic matching a network policy" -j MARK --set-xmark 0x10000/0x10000',
  '-A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000',
];

const podRules = (at: number): string[] => {
  const to = `-A KUBE-POD-FW-${name(at)}`;
  return [
    `${to} -m comment --comment "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `${to} -m comment --comment "rule to drop invalid state for pod" -m conntrack --ctstate INVALID -j DROP`,
    `${to} -d ${pod(at)}/32 -m comment --comment "rule to permit the traffic to pods when source is the pod's local node" -m addrtype --src-type LOCAL -j ACCEPT`,
    `${to} -m comment --comment "run through default egress network policy chain" -j KUBE-NWPLCY-DEFAULT`,
    `${to} -m comment --comment "rule to REJECT traffic destined for POD name:cart-${at} namespace: shop" -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable`,
    `${to} -m comment --comment "set mark to ACCEPT traffic that comply to network policies" -j MARK --set-xmark 0x20000/0x20000`,
  ];
};

/** The flat table as `nft -j list table` prints a native one. */
export const nativeNft: Shape = (rules) => {
  const match = (protocol: string, field: string, right: string | number) => ({ match: { op: '==', left: { payload: { protocol, field } }, right } });
  const inTable = { family: 'ip', table: 'shop', chain: 'forward' };
  return `${JSON.stringify({
    nftables: [
      { metainfo: { version: '1.0.6', release_name: 'Lester Gooch #5', json_schema_version: 1 } },
      { table: { family: 'ip', name: 'shop', handle: 1 } },
      { chain: { family: 'ip', table: 'shop', name: 'forward', handle: 1, type: 'filter', hook: 'forward', prio: 0, policy: 'accept' } },
      ...times(rules, (at) => ({
        rule: { ...inTable, handle: at + 2, expr: [match('ip', 'saddr', pod(at)), match('ip', 'daddr', service(at)), match('tcp', 'dport', port(at)), { accept: null }] },
      })),
    ],
  })}\n`;
};

function filterTable(rules: readonly string[], chains: readonly string[] = []): string {
  const declared = [':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', ...chains.map((chain) => `:${chain} - [0:0]`)];
  return ['# Generated by iptables-save v1.8.9 (nf_tables) on Sun Nov 22 20:00:00 2026', '*filter', ...declared, ...rules, 'COMMIT', ''].join('\n');
}

const times = <T>(count: number, make: (at: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));
/** Neighbours two apart, so that no two rules can be joined into one block. */
const pod = (at: number): string => `10.${((at * 2) >> 16) & 255}.${((at * 2) >> 8) & 255}.${(at * 2) & 255}`;
const service = (at: number): string => `172.${20 + ((at >> 16) & 7)}.${(at >> 8) & 255}.${at & 255}`;
const port = (at: number): number => 1024 + (at % 60_000);
/** kube-proxy's names are 16 letters of a hash. */
const name = (at: number): string => (BigInt(at + 1) * 0x9e3779b97f4a7c15n).toString(32).toUpperCase().slice(-16).padStart(16, 'A');
