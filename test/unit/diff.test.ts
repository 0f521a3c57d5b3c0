import t from 'tap';
import { type OwnedRule, diffOwned } from '../../agent/node-iptables/src/diff.ts';
import { parseSave } from '../../agent/node-iptables/src/save/parse-save.ts';

const observed = (text: string) => parseSave(text, { family: 'ipv4', backend: 'nft' });
const owned = (last: number, table = 'filter', chain = 'FORWARD'): OwnedRule => ({ table, chain, text: `-A ${chain} -d 192.0.2.${last}/32 -j DROP` });

t.test('present with all its positions, whatever way it is written; extra copies are the last ones', async (t) => {
  const { found, extra } = diffOwned(observed('*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP --dst 192.0.2.1\n-A FORWARD -j RETURN\n-A FORWARD -d 192.0.2.1/32 -j DROP\nCOMMIT\n'), [owned(1), owned(2)]);
  t.strictSame(found, [{ is: 'present', rule: owned(1), positions: [1, 3] }, { is: 'absent', rule: owned(2) }]);
  t.strictSame(extra, [{ rule: owned(1), position: 3 }]);
});

t.test('a rule in another chain or table is another rule', async (t) => {
  const { found } = diffOwned(observed('*filter\n-A INPUT -d 192.0.2.1/32 -j DROP\nCOMMIT\n*mangle\n-A FORWARD -d 192.0.2.1/32 -j DROP\nCOMMIT\n'), [owned(1)]);
  t.equal(found[0]!.is, 'absent');
});

t.test('owned twice and there once: present, then absent', async (t) => {
  const { found, extra } = diffOwned(observed('*filter\n-A FORWARD -d 192.0.2.1/32 -j DROP\nCOMMIT\n'), [owned(1), owned(1)]);
  t.strictSame(found.map(({ is }) => is), ['present', 'absent']);
  t.strictSame(extra, []);
});

t.test('what could not be seen is unknown, not absent', async (t) => {
  t.match(diffOwned(observed("# Table `filter' is incompatible, use 'nft' tool.\n"), [owned(1)]).found, [{ is: 'unknown', because: /nftables rules/ }]);
  const torn = '*filter\n-A FORWARD -d 192.0.2.1/32 -j DROP\n-A FORWARD -m comment --comment "torn\n';
  t.strictSame(diffOwned(observed(torn), [owned(1), owned(2), owned(1, 'mangle')]).found.map(({ is }) => is), ['present', 'unknown', 'absent']);
  t.match(diffOwned(observed('what is this\n'), [owned(1)]).found, [{ is: 'unknown', because: 'line 1 cannot be read: what is this' }]);
});

t.test('nothing was read because there is nothing: absent', async (t) => {
  t.equal(diffOwned(observed(''), [owned(1)]).found[0]!.is, 'absent');
});

t.test('the same as brute force, on random rulesets', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
  t.comment(`SEED=${seed}`);
  const random = seeded(seed);
  for (let round = 0; round < 400; round++) {
    const held = ['filter', 'mangle'].map((table) => ({
      table,
      incompatible: random(8) === 0,
      torn: random(8) === 0,
      rules: Array.from({ length: random(8) }, () => ({ chain: ['FORWARD', 'INPUT'][random(2)]!, last: random(4) })),
    }));
    const text = held
      .map(({ table, incompatible, torn, rules }) => incompatible
        ? `# Table \`${table}' is incompatible, use 'nft' tool.\n`
        : `*${table}\n${rules.map(({ chain, last }) => `-A ${chain} ${random(2) === 0 ? `-d 192.0.2.${last}/32 -j DROP` : `-j DROP -d 192.0.2.${last}`}\n`).join('')}${torn ? '-A FORWARD "\n' : ''}COMMIT\n`)
      .join('');
    const wanted = Array.from({ length: random(6) }, () => owned(random(4), ['filter', 'mangle', 'raw'][random(3)], ['FORWARD', 'INPUT'][random(2)]));
    const { found, extra } = diffOwned(observed(text), wanted);
    const spare = new Set<string>();

    for (const [at, rule] of wanted.entries()) {
      const table = held.find((one) => one.table === rule.table);
      const inChain = (table?.incompatible ? [] : (table?.rules ?? [])).filter((one) => one.chain === rule.chain);
      const positions = inChain.flatMap((one, index) => (rule.text.includes(`192.0.2.${one.last}/`) ? [index + 1] : []));
      const before = wanted.slice(0, at).filter((one) => one.text === rule.text && one.table === rule.table).length;
      const all = wanted.filter((one) => one.text === rule.text && one.table === rule.table).length;
      const is = positions.length > before ? 'present' : table && (table.incompatible || table.torn) ? 'unknown' : 'absent';
      const seen = found[at]!;
      const same = seen.is === is && (seen.is !== 'present' || String(seen.positions) === String(positions));
      if (!same) return t.fail(`SEED=${seed} round ${round}`, { text, rule, found: seen, is, positions });
      for (const position of positions.slice(all)) spare.add(`${rule.table} ${rule.text} ${position}`);
    }
    const extras = extra.map(({ rule, position }) => `${rule.table} ${rule.text} ${position}`);
    if (extras.length !== spare.size || !extras.every((one) => spare.has(one))) return t.fail(`SEED=${seed} round ${round}: extra`, { text, extras, spare });
  }
  t.pass('400 rulesets');
});

/** Mulberry32. */
function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
