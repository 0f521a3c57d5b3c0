import { anyPacket, baseChainsOf, judge, parseSave } from 'node-iptables';
import t from 'tap';

const judged = (raw: string, drop: string) => {
  const text = `*raw\n:PREROUTING ACCEPT [0:0]\n${raw}COMMIT\n*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ${drop} -j DROP\nCOMMIT\n`;
  const request = { ...anyPacket('ipv4'), flags: { known: 0x17, value: 2 } };
  return judge(baseChainsOf(parseSave(text, { family: 'ipv4', backend: 'legacy' })), { request, likely: request, picks: { interfaces: ['eth0'], sourcePort: 40000 } });
};

t.test('a target that nobody can read may take packets away from conntrack, so a drop of new connections proves nothing', async (t) => {
  t.equal(judged('', '-m conntrack --ctstate NEW').answer, 'blocked');
  t.equal(judged('-A PREROUTING -j CT --novel-option 1\n', '-m conntrack --ctstate NEW').answer, 'unknown');
  t.equal(judged('-A PREROUTING -j CHAIN-THAT-WAS-NOT-GIVEN\n', '-m conntrack --ctstate NEW').answer, 'unknown');
});

t.test('a drop that asks nothing of conntrack still does', async (t) => {
  t.equal(judged('-A PREROUTING -j CT --novel-option 1\n', '-p tcp').answer === 'blocked', false, 'not tcp alone');
  t.equal(judged('-A PREROUTING -j CT --novel-option 1\n', '-s 0.0.0.0/0').answer, 'blocked');
});
