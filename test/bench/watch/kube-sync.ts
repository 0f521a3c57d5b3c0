/**
 * What kube-proxy hands to `iptables-restore --noflush --counters` (pkg/proxy/iptables/proxier.go): each chain that it
 * declares is emptied, and its rules are written again, whether they changed or not.
 */
export function kubeSync(services: readonly Service[]): string {
  return [
    '*nat',
    ...['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ', ...services.flatMap((service) => [svc(service), ...seps(service)])].map((chain) => `:${chain} - [0:0]`),
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
    ...services.flatMap((service) => [
      ...(service.nodePort === undefined ? [] : [`-A KUBE-NODEPORTS -m comment --comment ${nameOf(service)} -m tcp -p tcp --dport ${service.nodePort} -j ${svc(service)}`]),
      `-A KUBE-SERVICES -m comment --comment "${nameOf(service)} cluster IP" -m tcp -p tcp -d ${service.address}/32 --dport 80 -j ${svc(service)}`,
      `-A ${svc(service)} -m comment --comment "${nameOf(service)} cluster IP" -m tcp -p tcp -d ${service.address}/32 --dport 80 ! -s 10.0.0.0/16 -j KUBE-MARK-MASQ`,
      ...endpointsOf(service).flatMap((endpoint, at, all) => [
        `-A ${svc(service)} -m comment --comment "${nameOf(service)} -> ${endpoint}:8080"${at === all.length - 1 ? '' : ` -m statistic --mode random --probability ${(1 / (all.length - at)).toFixed(10)}`} -j ${seps(service)[at]!}`,
        `-A ${seps(service)[at]!} -m comment --comment ${nameOf(service)} -s ${endpoint}/32 -j KUBE-MARK-MASQ`,
        `-A ${seps(service)[at]!} -m comment --comment ${nameOf(service)} -m tcp -p tcp -j DNAT --to-destination ${endpoint}:8080`,
      ]),
    ]),
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    'COMMIT',
    '',
  ].join('\n');
}

/** Of a service with two endpoints and no port of the node. */
export const RULES_A_SERVICE = 8;

/** What kube-proxy writes once, when it starts: the chains that the kernel calls, and the jumps into its own. */
export const KUBE_JUMPS = [
  '*nat',
  ...['KUBE-SERVICES', 'KUBE-POSTROUTING'].map((chain) => `:${chain} - [0:0]`),
  '-I PREROUTING 1 -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
  '-I OUTPUT 1 -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
  '-I POSTROUTING 1 -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
  'COMMIT',
  '',
].join('\n');

export interface Service {
  readonly number: number;
  readonly address: string;
  readonly nodePort: number | undefined;
  /** Other pods in every generation of a deployment. */
  readonly generation: number;
}

/** The same numbers give the same services; one in fifty can be reached by a port of the node. */
export const servicesFrom = (first: number, count: number, generation = 0): Service[] =>
  Array.from({ length: count }, (_, at) => first + at).map((number) => ({
    number,
    address: `172.20.${(number >> 8) & 255}.${number & 255}`,
    nodePort: number % 50 === 0 ? 30_000 + (number % 2768) : undefined,
    generation,
  }));

export const endpointsOf = ({ number, generation }: Service): string[] => [0, 1].map((which) => `10.${generation % 200}.${(number >> 7) & 255}.${((number * 2) & 255) | which}`);
export const nameOf = ({ number }: Service): string => `shop/cart-${number}:http`;
/** kube-proxy's names are 16 letters of a hash. */
export const chainHash = (number: number): string => (BigInt(number + 1) * 0x9e3779b97f4a7c15n).toString(32).toUpperCase().slice(-16).padStart(16, 'A');
const svc = ({ number }: Service): string => `KUBE-SVC-${chainHash(number)}`;
const seps = ({ number, generation }: Service): string[] => [0, 1].map((which) => `KUBE-SEP-${chainHash(number * 1000 + generation * 2 + which)}`);
