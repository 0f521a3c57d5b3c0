import type { Family } from '../sets/address.ts';
import { CT_DIRECTION, CT_STATE, CT_STATUS } from '../packet/packet-class.ts';
import { ALWAYS, NEVER, type Test, all, any, not } from '../packet/test.ts';
import { addressText, markText, readAddresses, readMark, readPorts, readProtocol, readRange, readTcpFlags, tcpFlagsText } from './values.ts';
import { quote, quoteAsSaved } from './words.ts';

/**
 * What is known of an option of a match: how many values follow it, what it asks of a packet, and how iptables-save
 * writes its values. Adding an option is adding a row.
 */
export interface MatchOption {
  readonly values: number;
  /** The question without its `!`; undefined when the values cannot be read. */
  readonly test: (values: readonly string[], family: Family) => Test | undefined;
  readonly text?: (values: readonly string[], family: Family) => readonly string[];
  /** The name that iptables-save prints, where it is another. */
  readonly printed?: string;
  /** Asks about the connection: a packet that has none does not match, not even the negated question. */
  readonly ofConnection?: true;
  /** Asks for the state, which decides alone where there is no connection. */
  readonly asksState?: true;
  /** Asks nothing of a packet, so that its negation has no meaning known here. */
  readonly asksNothing?: true;
}

export type MatchModule = Readonly<Record<string, MatchOption>>;

const maybe = (why: string): Test => ({ is: 'maybe', kind: 'state', why });
/** An option whose outcome no ruleset shows: rates, sets, clocks, contents. */
const depends = (values: number, on: string): MatchOption => ({ values, test: () => maybe(`depends on ${on}`) });
/** An option that only adjusts another one of its module, or that never keeps a packet from matching. */
const without = (values: number, text?: MatchOption['text']): MatchOption =>
  text ? { values, test: () => ALWAYS, text, asksNothing: true } : { values, test: () => ALWAYS, asksNothing: true };

const ports = (field: 'sport' | 'dport', printed: string): MatchOption => ({
  values: 1,
  printed,
  test: ([value]) => within(field, readPorts(value!)),
});
const within = (field: 'src' | 'dst' | 'proto' | 'sport' | 'dport', among: ReturnType<typeof readPorts>): Test | undefined =>
  among && { is: field, among };

const portOptions: MatchModule = {
  '--sport': ports('sport', '--sport'),
  '--source-port': ports('sport', '--sport'),
  '--dport': ports('dport', '--dport'),
  '--destination-port': ports('dport', '--dport'),
};

const anyPort: MatchOption = {
  values: 1,
  test: ([value]) => {
    const among = readPorts(value!);
    return among && any([{ is: 'sport', among }, { is: 'dport', among }]);
  },
};

const bits = (field: 'mark' | 'connmark'): MatchOption => ({
  values: 1,
  ...(field === 'connmark' ? { ofConnection: true } : {}),
  // The kernel compares (mark & mask) == value, with a value that may have bits outside the mask: then it never matches.
  test: ([value]) => {
    const read = readMark(value!);
    return read && { is: field, ...read };
  },
  text: ([value]) => {
    const read = readMark(value!);
    return [read ? markText(read) : value!];
  },
});

/** In the order in which iptables prints them (libxt_conntrack.c, conntrack_dump_state). */
const STATES = ['INVALID', 'NEW', 'RELATED', 'ESTABLISHED', 'UNTRACKED', 'SNAT', 'DNAT'] as const;

const states: MatchOption = {
  values: 1,
  asksState: true,
  test: ([value]) => {
    const tests: Test[] = [];
    let among = 0;
    for (const name of value!.split(',')) {
      if (name === 'SNAT' || name === 'DNAT') tests.push({ is: 'ctstatus', value: CT_STATUS[name], mask: CT_STATUS[name] });
      else if (Object.hasOwn(CT_STATE, name)) among |= CT_STATE[name as keyof typeof CT_STATE];
      else return undefined;
    }
    return among === 0 ? any(tests) : any([{ is: 'ctstate', among }, ...tests]);
  },
  text: ([value]) => {
    const names = value!.split(',');
    return [names.every((name) => STATES.some((known) => known === name)) ? STATES.filter((known) => names.includes(known)).join(',') : value!];
  },
};

const statuses: MatchOption = {
  values: 1,
  ofConnection: true,
  test: ([value]) => {
    const tests: Test[] = [];
    for (const name of value!.split(',')) {
      // A mask of no bits: never, and negated always (xt_conntrack.c: `!!(status_mask & ct->status)`).
      if (name === 'NONE') continue;
      if (!Object.hasOwn(CT_STATUS, name)) return undefined;
      const bit = CT_STATUS[name as keyof typeof CT_STATUS];
      tests.push({ is: 'ctstatus', value: bit, mask: bit });
    }
    return any(tests);
  },
};

/**
 * Address of the connection's original direction, which is the packet's own while it goes that way and nothing was
 * translated; otherwise not known from the packet.
 */
const original = (field: 'src' | 'dst'): MatchOption => ({
  values: 1,
  ofConnection: true,
  test: ([value], family) => {
    const among = readAddresses(family, value!);
    return among && any([all([isOriginal, { is: field, among }]), all([not(isOriginal), maybe('depends on how the connection began')])]);
  },
  text: ([value], family) => [addressText(family, value!).replace(/\/(32|128)$/, '')],
});
const isOriginal: Test = all([
  { is: 'ctdir', among: CT_DIRECTION.ORIGINAL },
  { is: 'ctstatus', value: 0, mask: CT_STATUS.DNAT | CT_STATUS.SNAT },
]);

const range = (field: 'src' | 'dst'): MatchOption => ({
  values: 1,
  test: ([value], family) => within(field, readRange(family, value!)),
});

const addressType = (side: 'source' | 'destination'): MatchOption => ({
  values: 1,
  test: ([value]) => {
    const tests: Test[] = [];
    for (const type of value!.split(',')) {
      if (type === 'LOCAL') tests.push(side === 'destination' ? { is: 'to-node' } : NEVER);
      else if (type === 'UNICAST') tests.push(side === 'destination' ? not({ is: 'to-node' }) : ALWAYS);
      else if (type === 'BROADCAST' || type === 'MULTICAST' || type === 'ANYCAST') tests.push(NEVER);
      else tests.push(maybe(`depends on the route type ${type}`));
    }
    return any(tests);
  },
});

/** Forwarded packets have no socket on this node, so xt_owner matches them only when negated. */
const socketOwner = (values: number): MatchOption => ({ values, test: () => NEVER });

const saved: MatchOption['text'] = ([value]) => [quoteAsSaved(value!)];

const rates = (names: readonly string[], on: string): MatchModule =>
  Object.fromEntries(names.map((name) => [name, depends(1, on)]));

/** iptables-extensions(8), by module. A module that is not here is unread; so is an option that its module lacks. */
export const MATCH_MODULES: Readonly<Record<string, MatchModule>> = {
  comment: { '--comment': without(1, saved) },
  // Counts and always matches, unless the object has a quota that is not used up (xt_nfacct.c); no ruleset shows which.
  nfacct: { '--nfacct-name': depends(1, 'whether the nfacct object has a quota') },
  tcp: {
    ...portOptions,
    '--tcp-flags': {
      values: 2,
      test: ([maskText, valueText]) => {
        const mask = readTcpFlags(maskText!);
        const value = readTcpFlags(valueText!);
        return mask === undefined || value === undefined ? undefined : { is: 'flags', value, mask };
      },
      text: ([mask, value]) => [tcpFlagsText(mask!), tcpFlagsText(value!)],
    },
    '--syn': { values: 0, printed: '--tcp-flags', test: () => ({ is: 'flags', value: 2, mask: 0x17 }), text: () => ['FIN,SYN,RST,ACK', 'SYN'] },
    '--tcp-option': depends(1, 'the TCP options of the packet'),
  },
  udp: portOptions,
  udplite: portOptions,
  sctp: { ...portOptions, '--chunk-types': depends(2, 'the SCTP chunks of the packet') },
  dccp: { ...portOptions, '--dccp-types': depends(1, 'the DCCP type'), '--dccp-option': depends(1, 'the DCCP options') },
  multiport: {
    '--sports': { values: 1, test: ([value]) => within('sport', readPorts(value!)) },
    '--source-ports': { values: 1, printed: '--sports', test: ([value]) => within('sport', readPorts(value!)) },
    '--dports': { values: 1, test: ([value]) => within('dport', readPorts(value!)) },
    '--destination-ports': { values: 1, printed: '--dports', test: ([value]) => within('dport', readPorts(value!)) },
    '--ports': anyPort,
  },
  conntrack: {
    '--ctstate': states,
    '--ctstatus': statuses,
    '--ctproto': { values: 1, ofConnection: true, test: ([value]) => within('proto', readProtocol(value!)) },
    '--ctorigsrc': original('src'),
    '--ctorigdst': original('dst'),
    '--ctreplsrc': depends(1, 'how the connection was translated'),
    '--ctrepldst': depends(1, 'how the connection was translated'),
    '--ctorigsrcport': depends(1, 'how the connection began'),
    '--ctorigdstport': depends(1, 'how the connection began'),
    '--ctreplsrcport': depends(1, 'how the connection was translated'),
    '--ctrepldstport': depends(1, 'how the connection was translated'),
    '--ctexpire': depends(1, 'the age of the connection'),
    '--ctdir': {
      values: 1,
      ofConnection: true,
      test: ([value]) => (value === 'ORIGINAL' || value === 'REPLY' ? { is: 'ctdir', among: CT_DIRECTION[value] } : undefined),
    },
  },
  state: { '--state': states },
  mark: { '--mark': bits('mark') },
  connmark: { '--mark': bits('connmark') },
  addrtype: {
    '--src-type': addressType('source'),
    '--dst-type': addressType('destination'),
    '--limit-iface-in': { values: 0, test: () => any([not({ is: 'to-node' }), maybe('depends on which interface holds the address')]) },
    '--limit-iface-out': { values: 0, test: () => maybe('depends on which interface holds the address') },
  },
  iprange: { '--src-range': range('src'), '--dst-range': range('dst') },
  pkttype: { '--pkt-type': { values: 1, test: ([value]) => (value === 'unicast' || value === 'host' ? ALWAYS : NEVER) } },
  owner: {
    '--uid-owner': socketOwner(1),
    '--gid-owner': socketOwner(1),
    '--socket-exists': socketOwner(0),
    '--suppl-groups': without(0),
  },
  // The source is the pod's own: a packet with another one gets no answer.
  rpfilter: {
    '--loose': without(0),
    '--validmark': without(0),
    '--accept-local': without(0),
    '--invert': { values: 0, test: () => NEVER },
  },
  icmp: { '--icmp-type': { values: 1, test: () => all([{ is: 'proto', among: [1, 2] }, maybe('depends on the ICMP type')]) } },
  icmp6: { '--icmpv6-type': { values: 1, test: () => all([{ is: 'proto', among: [58, 59] }, maybe('depends on the ICMP type')]) } },
  set: {
    '--match-set': { values: 2, test: ([name]) => maybe(`depends on the members of the ipset ${name}`) },
    '--return-nomatch': without(0),
    ...rates(['--packets-eq', '--packets-lt', '--packets-gt', '--bytes-eq', '--bytes-lt', '--bytes-gt'], 'counters of an ipset'),
  },
  limit: { '--limit': depends(1, 'a rate limit'), '--limit-burst': depends(1, 'a rate limit') },
  hashlimit: {
    '--hashlimit-upto': depends(1, 'a rate limit'),
    '--hashlimit-above': depends(1, 'a rate limit'),
    '--hashlimit': depends(1, 'a rate limit'),
    ...Object.fromEntries(
      ['burst', 'mode', 'srcmask', 'dstmask', 'name', 'htable-size', 'htable-max', 'htable-expire', 'htable-gcinterval', 'rate-interval'].map(
        (name) => [`--hashlimit-${name}`, without(1)],
      ),
    ),
    '--hashlimit-rate-match': without(0),
  },
  statistic: {
    '--mode': without(1),
    '--probability': depends(1, 'chance'),
    '--every': depends(1, 'how many packets came before'),
    '--packet': without(1),
  },
  recent: {
    '--rcheck': depends(0, 'a list of recent addresses'),
    '--update': depends(0, 'a list of recent addresses'),
    '--remove': depends(0, 'a list of recent addresses'),
    '--set': without(0),
    '--rsource': without(0),
    '--rdest': without(0),
    '--rttl': without(0),
    '--reap': without(0),
    '--name': without(1),
    '--seconds': without(1),
    '--hitcount': without(1),
    '--mask': without(1),
  },
  physdev: {
    ...rates(['--physdev-in', '--physdev-out'], 'the bridge port'),
    '--physdev-is-in': depends(0, 'the bridge port'),
    '--physdev-is-out': depends(0, 'the bridge port'),
    '--physdev-is-bridged': depends(0, 'the bridge port'),
  },
  time: {
    ...rates(['--timestart', '--timestop', '--monthdays', '--weekdays', '--datestart', '--datestop'], 'the clock'),
    '--kerneltz': without(0),
    '--contiguous': without(0),
  },
  string: {
    '--algo': without(1),
    '--from': without(1),
    '--to': without(1),
    '--icase': without(0),
    '--string': { values: 1, test: () => maybe('depends on what the packet holds'), text: ([value]) => [quote(value!)] },
    '--hex-string': { values: 1, test: () => maybe('depends on what the packet holds'), text: ([value]) => [quote(value!)] },
  },
  mac: rates(['--mac-source'], 'the hardware address'),
  length: rates(['--length'], 'the length of the packet'),
  ttl: rates(['--ttl-eq', '--ttl-lt', '--ttl-gt'], 'the TTL of the packet'),
  hl: rates(['--hl-eq', '--hl-lt', '--hl-gt'], 'the hop limit of the packet'),
  tos: rates(['--tos'], 'the TOS byte'),
  dscp: rates(['--dscp', '--dscp-class'], 'the DSCP value'),
  ecn: { '--ecn-tcp-cwr': depends(0, 'ECN'), '--ecn-tcp-ece': depends(0, 'ECN'), '--ecn-ip-ect': depends(1, 'ECN') },
  tcpmss: rates(['--mss'], 'the MSS of the packet'),
  quota: rates(['--quota'], 'a quota'),
  connlimit: {
    ...rates(['--connlimit-upto', '--connlimit-above'], 'how many connections there are'),
    '--connlimit-mask': without(1),
    '--connlimit-saddr': without(0),
    '--connlimit-daddr': without(0),
  },
  connbytes: { ...rates(['--connbytes'], 'how much the connection carried'), '--connbytes-dir': without(1), '--connbytes-mode': without(1) },
  connlabel: { '--label': depends(1, 'a connection label'), '--set': without(0) },
  helper: rates(['--helper'], 'a conntrack helper'),
  socket: { '--transparent': depends(0, 'a local socket'), '--nowildcard': without(0), '--restore-skmark': without(0) },
  cpu: rates(['--cpu'], 'the CPU'),
  devgroup: rates(['--src-group', '--dst-group'], 'the group of an interface'),
  realm: rates(['--realm'], 'the route'),
  bpf: rates(['--bytecode', '--object-pinned'], 'a BPF program'),
  u32: { '--u32': { values: 1, test: () => maybe('depends on what the packet holds'), text: ([value]) => [quote(value!)] } },
  policy: {
    ...rates(['--dir', '--pol', '--reqid', '--spi', '--proto', '--mode', '--tunnel-src', '--tunnel-dst'], 'IPsec'),
    '--strict': without(0),
    '--next': without(0),
  },
  cgroup: rates(['--path', '--cgroup'], 'a local socket'),
};

/** What a module asks that stands without options. One that is not here needs some, and cannot be read without. */
export const BARE_MODULE: Readonly<Record<string, Test>> = {
  ...Object.fromEntries(['comment', 'tcp', 'udp', 'udplite', 'sctp', 'dccp', 'icmp', 'icmp6'].map((name) => [name, ALWAYS])),
  // 3 an hour (libxt_limit.c).
  limit: maybe('depends on a rate limit'),
  rpfilter: maybe('depends on the routes'),
  socket: maybe('depends on a local socket'),
};
