/**
 * A rule as `nft -j` lists it (libnftables-json(5)), for the few words that our own table is made of; undefined for any
 * other.
 *
 *     ip daddr 192.0.2.7 meta l4proto tcp counter reject with tcp reset
 *     ip daddr 192.0.2.7 tcp dport 80 goto asked
 *     @ih,0,32 0x50555420 update @puts { iifname counter }
 */
export function ruleExpressions(words: readonly string[]): readonly object[] | undefined {
  const expressions: object[] = [];
  for (let rest = words.join(' '); rest !== ''; ) {
    const piece = PIECES.map(({ says, json }) => ({ found: says.exec(rest), json })).find(({ found }) => found !== null);
    if (!piece?.found) return undefined;
    expressions.push(piece.json(piece.found));
    rest = rest.slice(piece.found[0].length).trimStart();
  }
  return expressions;
}

const equals = (left: object, right: string | number | undefined): object => ({ match: { op: '==', left, right } });

const PIECES: readonly { readonly says: RegExp; readonly json: (found: RegExpExecArray) => object }[] = [
  { says: /^(ip6?) (daddr|saddr) ([0-9a-fA-F.:]+)(?= |$)/, json: ([, protocol, field, address]) => equals({ payload: { protocol, field } }, address) },
  { says: /^meta l4proto (tcp|udp)\b/, json: ([, protocol]) => equals({ meta: { key: 'l4proto' } }, protocol) },
  { says: /^([io]ifname) "?([^" ]+)"?(?= |$)/, json: ([, key, name]) => equals({ meta: { key } }, name) },
  { says: /^(tcp|udp) (dport|sport) (\d+)-(\d+)(?= |$)/, json: ([, protocol, field, first, last]) => ({ match: { op: '==', left: { payload: { protocol, field } }, right: { range: [Number(first), Number(last)] } } }) },
  { says: /^(tcp|udp) (dport|sport) (\d+)\b/, json: ([, protocol, field, port]) => equals({ payload: { protocol, field } }, Number(port)) },
  { says: /^tcp flags (syn|ack)(?= |$)/, json: ([, flag]) => ({ match: { op: 'in', left: { payload: { protocol: 'tcp', field: 'flags' } }, right: flag } }) },
  { says: /^@ih,(\d+),(\d+) (0x[0-9a-f]+)(?= |$)/, json: ([, offset, len, value]) => ({ match: { op: '==', left: { payload: { base: 'ih', offset: Number(offset), len: Number(len) } }, right: Number(value) } }) },
  { says: /^(add|update) (@\S+) \{ iifname( counter)? \}/, json: ([, op, set, counts]) => ({ set: { op, elem: { meta: { key: 'iifname' } }, set, ...(counts ? { stmt: [{ counter: null }] } : {}) } }) },
  // nft 1.0.6 leaves the level out.
  { says: /^update (@\S+) \{ socket cgroupv2 level \d+ counter \}/, json: ([, set]) => ({ set: { op: 'update', elem: { socket: { key: 'cgroupv2' } }, set, stmt: [{ counter: null }] } }) },
  { says: /^update (@\S+) \{ iifname \. (ip6?) saddr counter \}/, json: ([, set, protocol]) => ({ set: { op: 'update', elem: { concat: [{ meta: { key: 'iifname' } }, { payload: { protocol, field: 'saddr' } }] }, set, stmt: [{ counter: null }] } }) },
  { says: /^counter\b/, json: () => ({ counter: { packets: 0, bytes: 0 } }) },
  { says: /^reject with tcp reset\b/, json: () => ({ reject: { type: 'tcp reset' } }) },
  { says: /^(goto|jump) (\S+)$/, json: ([, verb, target]) => ({ [verb!]: { target } }) },
  { says: /^(drop|accept|return)$/, json: ([, verdict]) => ({ [verdict!]: null }) },
];
