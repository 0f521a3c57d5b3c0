import t from 'tap';
import { FakeFirewall } from '../../agent/node-iptables/src/fake/index.ts';

const kindOf = (call: Promise<unknown>): Promise<unknown> => call.then(() => 'it did not fail', (error: { kind?: unknown }) => error.kind);
const PAYLOAD = '*filter\n-A FORWARD -d 192.0.2.1/32 -j DROP\nCOMMIT\n';

t.test('the next restore fails, the one after lands; only what landed counts as a write', async (t) => {
  const fake = new FakeFirewall().fail({ method: 'restore', kind: 'busy', times: 1 });
  t.equal(await kindOf(fake.restore('ipv4', 'nft', PAYLOAD)), 'busy');
  t.equal(await kindOf(fake.restore('ipv4', 'nft', PAYLOAD)), 'it did not fail');
  t.strictSame(fake.writes, [{ by: 'iptables', family: 'ipv4', backend: 'nft', text: PAYLOAD }]);
});

t.test('one backend, or one family, is missing until it heals', async (t) => {
  const fake = new FakeFirewall().fail({ backend: 'nft', kind: 'not-installed' }).fail({ family: 'ipv6', backend: 'legacy', kind: 'unsupported' });
  t.equal(await kindOf(fake.save('ipv4', 'nft')), 'not-installed');
  t.equal(await kindOf(fake.nftList(['list', 'chains'])), 'not-installed');
  t.equal(await kindOf(fake.version('ipv4', 'default')), 'not-installed', 'the plain name stands for it');
  t.equal(await kindOf(fake.save('ipv6', 'legacy')), 'unsupported');
  t.equal(await kindOf(fake.save('ipv4', 'legacy')), 'it did not fail');
  t.equal(await kindOf(fake.heal().save('ipv4', 'nft')), 'it did not fail');
});

t.test('seeded with what was saved elsewhere, unchecked, it gives that back', async (t) => {
  const saved = '*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m from-the-future --what -j ELSEWHERE\nCOMMIT\n';
  const fake = new FakeFirewall().seed('ipv4', 'legacy', saved);
  t.equal(await fake.save('ipv4', 'legacy'), saved);
  t.strictSame(fake.writes, []);
});

t.test('families and backends do not see each other', async (t) => {
  const fake = new FakeFirewall();
  await fake.restore('ipv4', 'nft', PAYLOAD);
  for (const [family, backend] of [['ipv4', 'legacy'], ['ipv6', 'nft'], ['ipv6', 'legacy']] as const) t.equal(await fake.save(family, backend), '');
});

t.test('dump shows all of it', async (t) => {
  const fake = new FakeFirewall();
  await fake.restore('ipv6', 'legacy', '*raw\n:A - [0:0]\nCOMMIT\n');
  await fake.nftRun('table inet g {\n chain c { type filter hook forward priority -200; policy drop; ip daddr 192.0.2.1 drop; }\n}\n');
  t.equal(
    fake.dump(),
    '# ip6tables-legacy\n*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\nCOMMIT\ntable inet g {\n\tchain c {\n\t\ttype filter hook forward priority -200; policy drop;\n\t\tip daddr 192.0.2.1 drop\n\t}\n}\n',
  );
});

t.test('nft that it does not know is unsupported, and changes nothing', async (t) => {
  const fake = new FakeFirewall();
  for (const script of ['add table inet g\nadd set inet g s { type ipv4_addr; }\n', 'table inet g {\n chain c {\n  vlan id 3 drop\n }\n}\n', 'table inet g {', 'table inet g { chain c { type filter hook forward priority filter; } }']) {
    t.equal(await kindOf(fake.nftRun(script)), 'unsupported', script);
  }
  t.equal(await kindOf(fake.nftList(['list', 'ruleset'])), 'unsupported');
  t.equal(fake.dump(), '');
});
