/**
 * A rule as `nft -j` lists it (libnftables-json(5)), for the few words that our own table is made of; undefined for any
 * other.
 *
 *     ip daddr 192.0.2.7 meta l4proto tcp counter reject with tcp reset
 *     ip daddr 192.0.2.7 tcp dport 80 update @clients { iifname . ip saddr counter }
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
  { says: /^(tcp|udp) (dport|sport) (\d+)\b/, json: ([, protocol, field, port]) => equals({ payload: { protocol, field } }, Number(port)) },
  { says: /^update (@\S+) \{ iifname \. (ip6?) saddr counter \}/, json: ([, set, protocol]) => ({ set: { op: 'update', elem: { concat: [{ meta: { key: 'iifname' } }, { payload: { protocol, field: 'saddr' } }] }, set, stmt: [{ counter: null }] } }) },
  { says: /^counter\b/, json: () => ({ counter: { packets: 0, bytes: 0 } }) },
  { says: /^reject with tcp reset\b/, json: () => ({ reject: { type: 'tcp reset' } }) },
  { says: /^(drop|accept|return)$/, json: ([, verdict]) => ({ [verdict!]: null }) },
];
