import { ALWAYS, NEVER, type Test, all, not } from '../packet/test.ts';
import { EVERY_ADDRESS } from '../sets/address.ts';
import { type Bound, type IntervalSet, intersect, interval, isEmpty } from '../sets/interval-set.ts';
import { ctField } from './ct-field.ts';
import { depends } from './doubt.ts';
import { type Comparison, type Field, stateField, unreadField } from './field.ts';
import { flagsField } from './flags-field.ts';
import { listOf, member, nameOf, textOf, textsOf } from './json.ts';
import { markField } from './mark-field.ts';
import type { Surroundings } from './surroundings.ts';
import { readAddress, readName, readPort, readProto } from './values.ts';

/** What `{"payload": …}`, `{"meta": …}`, `{"ct": …}`, `{"concat": […]}` and the like look at. */
export function fieldOf(left: unknown, around: Surroundings): Field {
  const body = member(left, nameOf(left) ?? '');
  switch (nameOf(left)) {
    case 'meta':
      return metaField(String(member(body, 'key')), left, around);
    case 'payload':
      return payloadField(body, left, around);
    case 'ct':
      return ctField(body, left, around);
    case 'fib':
      return fibField(body, left);
    case 'concat':
      return concatField(listOf(body), around);
    case '&':
    case '|':
    case '^':
      return markField(left, around) ?? flagsField(left, around) ?? unreadField(left);
    case 'socket':
    case 'osf':
    case 'rt':
    case 'exthdr':
    case 'ipsec':
    case 'tcp option':
    case 'ip option':
    case 'sctp chunk':
    case 'numgen':
      return stateField(left);
    default:
      return unreadField(left);
  }
}

/** The family that nft asks for before it looks at a field of `ip` or `ip6`; the listing does not show the question. */
export const familyNeeded = (protocol: string | undefined, around: Surroundings): readonly Test[] => {
  if (protocol === 'ip' || protocol === 'icmp' || protocol === 'igmp') return around.family === 'ipv4' ? [] : [NEVER];
  if (protocol === 'ip6' || protocol === 'icmpv6') return around.family === 'ipv6' ? [] : [NEVER];
  return [];
};

/** What no packet class knows, though nothing is unclear about the words. */
const META_STATE = new Set([
  'length', 'priority', 'cpu', 'iif', 'oif', 'iiftype', 'oiftype', 'iifgroup', 'oifgroup', 'iifkind', 'oifkind', 'skuid', 'skgid',
  'cgroup', 'rtclassid', 'random', 'ipsec', 'time', 'day', 'hour', 'ibrname', 'obrname', 'sdif', 'sdifname', 'secmark',
]);

function metaField(key: string, left: unknown, around: Surroundings): Field {
  switch (key) {
    case 'iifname':
      return nameField('iif');
    case 'oifname':
      return nameField('oif');
    case 'l4proto':
      return intervalField('proto', readProto, [0, 256]);
    case 'nfproto':
      return constantField(around.family);
    case 'protocol':
      return constantField(around.family === 'ipv4' ? 'ip' : 'ip6');
    case 'mark':
      return markField(left, around) ?? unreadField(left);
    case 'pkttype':
      // As for iptables: packets of a class are sent to one host.
      return constantField('host', 'unicast');
    default:
      return META_STATE.has(key) ? stateField(left) : unreadField(left);
  }
}

/** The protocol that nft asks for before it looks at a header (src/proto.c, proto_inet_service). */
const PROTOCOL_OF: Readonly<Record<string, number>> = {
  tcp: 6, udp: 17, udplite: 136, sctp: 132, dccp: 33, icmp: 1, icmpv6: 58, igmp: 2, ah: 51, esp: 50, comp: 108,
};
const HAS_PORTS = new Set(['tcp', 'udp', 'udplite', 'sctp', 'dccp', 'th']);
const HEADER_STATE = new Set(['ip', 'ip6', 'icmp', 'icmpv6', 'igmp', 'tcp', 'udp', 'udplite', 'sctp', 'dccp', 'ah', 'esp', 'comp', 'ether']);

function payloadField(body: unknown, left: unknown, around: Surroundings): Field {
  const protocol = textOf(member(body, 'protocol'));
  const field = textOf(member(body, 'field'));
  // `@ih,0,32`: what the packet carries. `@nh,128,32` would be an address.
  if (protocol === undefined) return member(body, 'base') === 'ih' ? stateField(left) : unreadField(left);
  const number = Object.hasOwn(PROTOCOL_OF, protocol) ? PROTOCOL_OF[protocol]! : undefined;
  const needs = [...familyNeeded(protocol, around), ...(number === undefined ? [] : [protoIs(number)])];
  const needing = (inner: Field): Field => ({ ...inner, needs: [...needs, ...inner.needs] });
  if ((protocol === 'ip' || protocol === 'ip6') && (field === 'saddr' || field === 'daddr')) {
    return needing(intervalField(field === 'saddr' ? 'src' : 'dst', (value) => readAddress(around.family, value), EVERY_ADDRESS[around.family]));
  }
  if (protocol === 'ip' && field === 'protocol') return needing(intervalField('proto', readProto, [0, 256]));
  if (protocol === 'ip6' && field === 'nexthdr') return needing(nextHeaderField());
  if (HAS_PORTS.has(protocol) && (field === 'sport' || field === 'dport')) return needing(intervalField(field, readPort, [0, 65536]));
  if (protocol === 'tcp' && field === 'flags') return flagsField(left, around) ?? unreadField(left);
  return needing(HEADER_STATE.has(protocol) ? stateField(left) : unreadField(left));
}

const protoIs = (number: number): Test => ({ is: 'proto', among: interval(number, number + 1) });

/** Headers that may stand between IPv6 and the transport (RFC 8200 §4.1, and 135, 139, 140). */
const EXTENSION_HEADERS = [0, 43, 44, 50, 51, 60, 135, 139, 140] as const;

/**
 * The byte itself, not the protocol: an extension header, which every sender can add, hides the protocol from it. So a
 * match is certain to fail where the protocol is another, and never certain to succeed.
 */
function nextHeaderField(): Field {
  const equals = (value: unknown): Test | undefined => {
    const among = readProto(value);
    if (!among) return undefined;
    const hidden = depends('the extension headers of the packet');
    return EXTENSION_HEADERS.some((header) => !isEmpty(intersect(among, interval(header, header + 1)))) ? hidden : all([{ is: 'proto', among }, hidden]);
  };
  return { needs: [], equals };
}

const nameField = (is: 'iif' | 'oif'): Field => ({
  needs: [],
  equals: (value) => {
    const pattern = readName(value);
    return pattern && (pattern.open && pattern.prefix === '' ? ALWAYS : { is, pattern });
  },
});

function intervalField(is: 'src' | 'dst' | 'proto' | 'sport' | 'dport', read: (value: unknown) => IntervalSet | undefined, every: IntervalSet): Field {
  const equals = (value: unknown): Test | undefined => {
    const among = read(value);
    return among && { is, among };
  };
  const compares = (op: Comparison, value: unknown): Test | undefined => {
    const [from, below] = read(value) ?? [];
    if (from === undefined || below === undefined) return undefined;
    return { is, among: compared(op, from, below, every) };
  };
  return { needs: [], equals, compares };
}

function compared(op: Comparison, from: Bound, below: Bound, every: IntervalSet): IntervalSet {
  switch (op) {
    case '<':
      return interval(every[0]!, from);
    case '<=':
      return interval(every[0]!, below);
    case '>':
      return interval(below, every[1]!);
    case '>=':
      return interval(from, every[1]!);
  }
}

/** A field that has the same value in every packet of the family. */
const constantField = (...values: readonly string[]): Field => ({
  needs: [],
  equals: (value) => (typeof value === 'string' ? (values.includes(value) ? ALWAYS : NEVER) : undefined),
});

/** `fib daddr type local`. Every other question to the routing table depends on it. */
function fibField(body: unknown, left: unknown): Field {
  const flags = textsOf(member(body, 'flags'));
  if (member(body, 'result') !== 'type' || !flags.includes('daddr')) return stateField(left);
  const routes = depends('the routing table');
  // Narrowed to an interface (`daddr . iif`) an address of the node may still be no local one.
  const local: Test = flags.length === 1 ? { is: 'to-node' } : all([{ is: 'to-node' }, routes]);
  return {
    needs: [],
    equals: (value) => (typeof value !== 'string' ? undefined : value === 'local' ? local : flags.length === 1 ? all([not(local), routes]) : routes),
  };
}

function concatField(parts: readonly unknown[], around: Surroundings): Field {
  const fields = parts.map((part) => fieldOf(part, around));
  return {
    needs: fields.flatMap((field) => field.needs),
    changeable: fields.some((field) => field.changeable === true),
    equals: (value) => {
      const values = member(value, 'concat');
      if (!Array.isArray(values) || values.length !== fields.length) return undefined;
      const tests = fields.map((field, at) => (values[at] === '*' ? ALWAYS : (field.undecided ?? field.equals(values[at]))));
      return tests.every((test) => test !== undefined) ? all(tests) : undefined;
    },
  };
}
