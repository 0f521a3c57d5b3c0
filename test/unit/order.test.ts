import { anyPacket, baseChainsOf, judge, nftBaseChains, parseNftText, parseSave } from 'node-iptables';
import t from 'tap';

/** Five native chains at one priority, each of which marks: more orders than are tried. */
const five = [1, 2, 3, 4, 5]
  .map((n) => `table ip t${n} {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\tmeta mark set 0x${n}\n\t}\n}\n`)
  .join('');
const judged = (mangle: string) => {
  const saved = parseSave(`*mangle\n:FORWARD ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n${mangle}\nCOMMIT\n`, { family: 'ipv4', backend: 'nft' });
  const bases = [...baseChainsOf(saved), ...nftBaseChains(parseNftText(five), 'ipv4', () => true)];
  const request = { ...anyPacket('ipv4'), dst: [10, 11] };
  return judge(bases, { request, likely: request, picks: { interfaces: ['eth0'], sourcePort: 40000 } });
};

t.test('where nobody can tell the order of chains, a drop that needs none is still a proof', async (t) => {
  const judgement = judged('-A POSTROUTING -d 0.0.0.10/32 -j DROP');
  t.match(judgement, { answer: 'blocked', proof: [{ text: /-j DROP/ }], entered: undefined });
});

t.test('orders of chains that no packet comes to are no question', async (t) => {
  const judgement = judged('-A FORWARD -d 0.0.0.10/32 -m mark --mark 0x0 -j DROP');
  t.match(judgement, { answer: 'blocked', proof: [{ text: /-j DROP/ }] });
  t.same(judgement.answer === 'blocked' && judgement.entered?.map(({ name }) => name), ['FORWARD']);
});

t.test('and a drop that hangs on a mark is none', async (t) => {
  const judgement = judged('-A POSTROUTING -d 0.0.0.10/32 -m mark --mark 0x1 -j DROP');
  t.match(judgement, { answer: 'unknown', because: 'order' });
});
