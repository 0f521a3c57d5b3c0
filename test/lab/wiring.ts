// What an EKS node looks like from the network, as lines for `ip -batch`. Values in, text out: nothing here runs.
//
//   pod eth0 ──── eni<11 hex>  ─┐                    ┌─ ens5 ─────────── uplink0   10.0.0.1, 169.254.169.254 ┐
//   pod eth0 ──── vlan<11 hex> ─┤ node (forwarding) ─┤                             fd00:ec2::254             ├ imds
//   pod v4if0 ─── veth<8 hex>  ─┘                    └─ vlan.eth.1 ───── trunk1    10.0.2.1                  ┘
//   pod eth0 (macvlan on ens5): passes by the node's netfilter hooks altogether
//
// MAC addresses are ours to choose and neighbours are permanent, as the VPC CNI does it: no ARP, nothing to wait for.
import { createHash } from 'node:crypto';

/**
 * `eni`: an ordinary pod. `vlan`: a pod with a branch ENI in strict mode, routed by table 10N through vlan.eth.N.
 * `v6`: a pod of an IPv6 cluster; its IPv4 leaves by a second veth. `macvlan`: an interface that is no veth of the node.
 * `loose`: a namespace that is connected to nothing; the test does that.
 */
export type PodKind = 'eni' | 'vlan' | 'v6' | 'macvlan' | 'loose';

export interface PodSpec {
  readonly kind: PodKind;
  /** In place of `eni` or `vlan` in the host interface's name (AWS_VPC_K8S_CNI_VETHPREFIX). */
  readonly prefix?: string;
}

export interface Pod {
  readonly name: string;
  readonly kind: PodKind;
  readonly namespace: string;
  /** Empty for a macvlan pod and a loose one: the node has no end of it. */
  readonly hostInterface: string;
  /** The second host veth of a `v6` pod, else empty. */
  readonly hostInterface4: string;
  readonly address4: string;
  /** Empty but for a `v6` pod. */
  readonly address6: string;
}

export interface Site {
  readonly node: string;
  readonly imds: string;
  readonly ipv6: boolean;
  readonly pods: readonly Pod[];
}

/** What `ip -batch` in each namespace is fed; the node's comes first, it makes the links of all the others. */
export interface Wiring {
  readonly sysctls: Readonly<Record<string, string>>;
  readonly node: string;
  readonly others: readonly { readonly namespace: string; readonly batch: string }[];
}

export function layOut(name: string, spec: PodSpec, number: number, namespace: string): Pod {
  const hash = createHash('sha1').update(`default.${name}`).digest('hex');
  const prefix = spec.prefix ?? (spec.kind === 'vlan' ? 'vlan' : 'eni');
  return {
    name,
    kind: spec.kind,
    namespace,
    // IFNAMSIZ leaves fifteen characters.
    hostInterface: spec.kind === 'macvlan' || spec.kind === 'loose' ? '' : `${prefix}${hash.slice(0, 11)}`.slice(0, 15),
    hostInterface4: spec.kind === 'v6' ? `veth${hash.slice(0, 8)}` : '',
    address4: { eni: '10.0.1', vlan: '10.0.2', v6: '169.254.172', macvlan: '10.0.0', loose: '172.17.0' }[spec.kind] + `.${100 + number}`,
    address6: spec.kind === 'v6' ? `2001:db8:0:2::${100 + number}` : '',
  };
}

export function wire(site: Site): Wiring {
  const ends = site.pods.map((pod, index) => connect(pod, index + 1, site));
  return {
    sysctls: {
      'net/ipv4/ip_forward': '1',
      'net/ipv4/conf/all/rp_filter': '0',
      'net/ipv4/conf/default/rp_filter': '0',
      ...(site.ipv6 ? { 'net/ipv6/conf/all/forwarding': '1' } : {}),
    },
    node: lines(
      'link set lo up',
      `link add ens5 address ${mac('node', 0)} type veth peer name uplink0 address ${mac('imds', 0)} netns ${site.imds}`,
      'link set ens5 addrgenmode none up',
      'addr add 10.0.0.10/24 dev ens5',
      'route add default via 10.0.0.1 dev ens5',
      'route add 169.254.169.254 dev ens5',
      ...site.ipv6
        ? [
            'addr add 2001:db8:0:1::10/64 dev ens5 nodad',
            'route add fd00:ec2::254 dev ens5',
            ...['fd00:ec2::254', '2001:db8:0:1::1'].map(address => neighbour(address, mac('imds', 0), 'ens5')),
          ]
        : [],
      ...ends.flatMap(end => end.node),
    ),
    others: [
      {
        namespace: site.imds,
        batch: lines(
          'link set lo up',
          'link set uplink0 addrgenmode none up',
          'addr add 10.0.0.1/24 dev uplink0',
          'addr add 169.254.169.254/32 dev uplink0',
          'route add 10.0.1.0/24 via 10.0.0.10',
          'route add 169.254.172.0/22 via 10.0.0.10',
          ...site.ipv6
            ? [
                'addr add 2001:db8:0:1::1/64 dev uplink0 nodad',
                'addr add fd00:ec2::254/128 dev uplink0 nodad',
                'route add 2001:db8:0:2::/64 via 2001:db8:0:1::10',
                neighbour('2001:db8:0:1::10', mac('node', 0), 'uplink0'),
              ]
            : [],
          ...ends.flatMap(end => end.imds),
        ),
      },
      ...site.pods.map((pod, index) => ({
        namespace: pod.namespace,
        batch: lines('link set lo up', ...(ends[index]?.pod ?? [])),
      })),
    ],
  };
}

interface Ends {
  readonly node: readonly string[];
  readonly imds: readonly string[];
  readonly pod: readonly string[];
}

function connect(pod: Pod, number: number, site: Site): Ends {
  switch (pod.kind) {
    case 'eni':
      return {
        node: [...veth(pod, pod.hostInterface, 'eth0', number), `route add ${pod.address4} dev ${pod.hostInterface}`],
        imds: [],
        pod: gateway4('eth0', pod.address4, '169.254.1.1', mac('host', number)),
      };
    case 'vlan':
      return branch(pod, number, site.pods.filter(({ kind }) => kind === 'vlan').indexOf(pod) + 1, site.imds);
    case 'v6':
      return {
        node: [
          ...veth(pod, pod.hostInterface, 'eth0', number),
          `route add ${pod.address6} dev ${pod.hostInterface}`,
          neighbour(pod.address6, mac('pod', number), pod.hostInterface),
          ...veth(pod, pod.hostInterface4, 'v4if0', second + number),
          `addr add 169.254.172.1/32 dev ${pod.hostInterface4}`,
          `route add ${pod.address4} dev ${pod.hostInterface4}`,
        ],
        imds: [],
        pod: [
          'link set eth0 addrgenmode none up',
          `addr add ${pod.address6}/128 dev eth0 nodad`,
          neighbour('fe80::1', mac('host', number), 'eth0'),
          'route add default via fe80::1 dev eth0',
          ...gateway4('v4if0', pod.address4, '169.254.172.1', mac('host', second + number)),
        ],
      };
    case 'macvlan':
      return {
        node: [`link add link ens5 name eth0 netns ${pod.namespace} type macvlan mode bridge`],
        imds: [],
        pod: [
          'link set eth0 up',
          `addr add ${pod.address4}/24 dev eth0`,
          'route add default via 10.0.0.1 dev eth0',
          'route add 169.254.169.254 dev eth0',
        ],
      };
    case 'loose':
      return { node: [], imds: [], pod: [] };
  }
}

/**
 * A branch ENI (security groups for pods, strict mode). vlan.eth.N is an 802.1q child of the trunk ENI on a real node and
 * a veth here: netfilter only sees its name. The VPC knows where the pod's address is; here a neighbour entry does.
 */
function branch(pod: Pod, number: number, eni: number, imds: string): Ends {
  const [link, trunk, table] = [`vlan.eth.${eni}`, `trunk${eni}`, 100 + eni];
  return {
    node: [
      ...veth(pod, pod.hostInterface, 'eth0', number),
      `link add ${link} address ${mac('node', number)} type veth peer name ${trunk} address ${mac('imds', number)} netns ${imds}`,
      `link set ${link} addrgenmode none up`,
      `route add 10.0.2.1 dev ${link} scope link table ${table}`,
      `route add default via 10.0.2.1 dev ${link} onlink table ${table}`,
      `route add ${pod.address4} dev ${pod.hostInterface} table ${table}`,
      neighbour('10.0.2.1', mac('imds', number), link),
      `rule add iif ${link} lookup ${table} pref 10`,
      `rule add iif ${pod.hostInterface} lookup ${table} pref 10`,
    ],
    imds: [
      `link set ${trunk} addrgenmode none up`,
      `addr add 10.0.2.1/32 dev ${trunk}`,
      `route add ${pod.address4} dev ${trunk}`,
      neighbour(pod.address4, mac('node', number), trunk),
    ],
    pod: gateway4('eth0', pod.address4, '169.254.1.1', mac('host', number)),
  };
}

function veth(pod: Pod, host: string, inside: string, number: number): readonly string[] {
  return [
    `link add ${host} address ${mac('host', number)} type veth peer name ${inside} address ${mac('pod', number)} netns ${pod.namespace}`,
    `link set ${host} addrgenmode none up`,
    ...(pod.kind === 'v6' && inside === 'eth0' ? [] : [neighbour(pod.address4, mac('pod', number), host)]),
  ];
}

/** The VPC CNI's way: a /32, a gateway that is on no subnet, and its MAC written down. */
function gateway4(link: string, address: string, gateway: string, gatewayMac: string): readonly string[] {
  return [
    `link set ${link} addrgenmode none up`,
    `addr add ${address}/32 dev ${link}`,
    neighbour(gateway, gatewayMac, link),
    `route add ${gateway} dev ${link} scope link`,
    `route add default via ${gateway} dev ${link}`,
  ];
}

function neighbour(address: string, lladdr: string, link: string): string {
  return `neigh add ${address} lladdr ${lladdr} dev ${link} nud permanent`;
}

/** Keeps the numbers of second interfaces apart from those of the first. */
const second = 128;

function mac(place: 'node' | 'imds' | 'host' | 'pod', number: number): string {
  const room = { node: '01', imds: '02', host: '03', pod: '04' }[place];
  return `02:00:00:00:${room}:${number.toString(16).padStart(2, '0')}`;
}

function lines(...words: readonly string[]): string {
  return words.map(word => `${word}\n`).join('');
}
