import t from 'tap';
import { compareVersions, parseVersion, programName } from '../../agent/node-iptables/src/versions.ts';

t.test('what --version prints', async (t) => {
  for (const [text, major, minor, patch, backend] of [
    ['iptables v1.8.9 (nf_tables)\n', 1, 8, 9, 'nft'],
    ['ip6tables v1.8.7 (legacy)\n', 1, 8, 7, 'legacy'],
    ['iptables v1.4.21\n', 1, 4, 21, 'legacy'],
    ['iptables-nft-save v1.8.9 (nf_tables)\n', 1, 8, 9, 'nft'],
    ['iptables v1.8 (nf_tables)', 1, 8, 0, 'nft'],
    ['iptables v1.8.10 (nf_tables)', 1, 8, 10, 'nft'],
    ['# Warning: iptables-legacy tables present, use iptables-legacy to see them\niptables v1.8.9 (nf_tables)\n', 1, 8, 9, 'nft'],
  ] as const) {
    t.match(parseVersion(text), { major, minor, patch, backend }, text);
  }
  t.equal(parseVersion('iptables v1.8.9 (nf_tables)\n')?.text, 'iptables v1.8.9 (nf_tables)');
});

t.test('what is no version of iptables', async (t) => {
  for (const text of ['', 'nftables v1.0.6 (Lester Gooch #5)\n', 'iptables v1.8.9 (something new)', 'iptables v1', 'sh: iptables: not found', 'not iptables v1.8.9']) {
    t.equal(parseVersion(text), undefined, text);
  }
});

t.test('1.8.10 is above 1.8.9', async (t) => {
  const versions = ['iptables v1.8.10', 'iptables v1.4.21', 'iptables v1.8.9', 'iptables v2.0.0'].map((text) => parseVersion(text)!);
  t.strictSame(versions.sort(compareVersions).map(({ text }) => text), ['iptables v1.4.21', 'iptables v1.8.9', 'iptables v1.8.10', 'iptables v2.0.0']);
});

t.test('names of programs', async (t) => {
  t.equal(programName('ipv4', 'nft', 'save'), 'iptables-nft-save');
  t.equal(programName('ipv6', 'legacy', 'restore'), 'ip6tables-legacy-restore');
  t.equal(programName('ipv4', 'default', 'save'), 'iptables-save');
  t.equal(programName('ipv6', 'default', 'change'), 'ip6tables');
  t.equal(programName('ipv4', 'nft', 'change'), 'iptables-nft');
});
