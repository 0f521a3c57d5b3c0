import t from 'tap';
import type { Backend, Ruleset } from '../../agent/node-iptables/src/model.ts';
import { applyRestore } from '../../agent/node-iptables/src/save/apply-restore.ts';
import { parseSave } from '../../agent/node-iptables/src/save/parse-save.ts';
import { renderRuleset } from '../../agent/node-iptables/src/save/render.ts';

const held = (text = '', backend: Backend = 'nft'): Ruleset => parseSave(text, { family: 'ipv4', backend });
const FILTER = '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n';

t.test('a table comes into being when it is first touched, with its kernel chains', async (t) => {
  const applied = applyRestore(held(), '*filter\n-A FORWARD -j DROP -d 192.0.2.1\nCOMMIT\n');
  t.equal(renderRuleset(applied.ruleset), `${FILTER}-A FORWARD -d 192.0.2.1/32 -j DROP\nCOMMIT\n`);
});

t.test('a payload that changes nothing makes a table on legacy and none on nft', async (t) => {
  t.equal(renderRuleset(applyRestore(held(), '*filter\nCOMMIT\n').ruleset), '');
  t.equal(renderRuleset(applyRestore(held('', 'legacy'), '*filter\nCOMMIT\n').ruleset), `${FILTER}COMMIT\n`);
  t.equal(renderRuleset(applyRestore(held('', 'legacy'), '*filter\nbogus\nCOMMIT\n').ruleset), `${FILTER}COMMIT\n`, 'even when it is refused');
});

t.test('refused: the line, the reason, and what was committed before it', async (t) => {
  const applied = applyRestore(held(), '# note\n\n*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n*mangle\n-A FORWARD -j ACCEPT\n-A FORWARD -j REJECT\nCOMMIT\n');
  t.match(applied, { refused: 'REJECT belongs in the table filter', line: 8 });
  t.strictSame([...applied.ruleset.tables.keys()], ['filter']);
  t.match(applyRestore(held(), '*filter\n-A FORWARD -j ACCEPT\n'), { refused: 'COMMIT expected', line: 3 });
});

t.test('the ruleset it was given is left as it was', async (t) => {
  const before = held(`${FILTER}:A - [0:0]\n-A FORWARD -j A\nCOMMIT\n`);
  const text = renderRuleset(before);
  applyRestore(before, '*filter\n:A - [0:0]\n-F\n-P FORWARD DROP\n-X A\nCOMMIT\n');
  t.equal(renderRuleset(before), text);
});

t.test('user chains stand after the kernel’s, by their bytes; tables as each backend prints them', async (t) => {
  const payload = '*nat\n:b - [0:0]\n:B - [0:0]\nCOMMIT\n*mangle\n-P FORWARD ACCEPT\nCOMMIT\n*filter\n-P INPUT ACCEPT\nCOMMIT\n';
  t.strictSame([...applyRestore(held(), payload).ruleset.tables.keys()], ['mangle', 'filter', 'nat']);
  const legacy = applyRestore(held('', 'legacy'), payload).ruleset.tables;
  t.strictSame([...legacy.keys()], ['filter', 'mangle', 'nat'], 'the newest first');
  t.strictSame([...legacy.get('nat')!.chains.keys()], ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING', 'B', 'b']);
});

t.test('where the backends differ', async (t) => {
  const policy = '*filter\n:OURS DROP [0:0]\nCOMMIT\n';
  t.notOk('refused' in applyRestore(held(), policy), 'nft ignores the policy of a user chain');
  t.match(applyRestore(held('', 'legacy'), policy), { refused: /Bad built-in chain name/, line: 2 });
  const trace = '*mangle\n-A FORWARD -j TRACE\nCOMMIT\n';
  t.notOk('refused' in applyRestore(held(), trace));
  t.match(applyRestore(held('', 'legacy'), trace), { refused: 'TRACE belongs in the table raw' });
});

t.test('-R, -C, -Z, -P and long names', async (t) => {
  const applied = applyRestore(
    held(`${FILTER}-A FORWARD -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT\n`),
    '*filter\n--replace FORWARD 2 -j RETURN\n--check FORWARD -j RETURN\n--zero\n-Z FORWARD\n--policy INPUT DROP\n--new-chain A\n--append A -j ACCEPT\n--insert A -j DROP\n--delete A -j ACCEPT\n--flush A\n--delete-chain A\nCOMMIT\n',
  );
  t.notOk('refused' in applied);
  t.equal(renderRuleset(applied.ruleset), FILTER.replace('INPUT ACCEPT', 'INPUT DROP') + '-A FORWARD -j ACCEPT\n-A FORWARD -j RETURN\nCOMMIT\n');
});

t.test('words that only look like options do not mislead', async (t) => {
  const applied = applyRestore(held(), '*mangle\n-A POSTROUTING -m comment --comment "-i eth0 -j NOWHERE" -j ACCEPT\n-A POSTROUTING -m comment --comment "-c" -j ACCEPT\nCOMMIT\n');
  t.notOk('refused' in applied);
});

t.test('the kernel chains that an excerpt lacks are there all the same', async (t) => {
  const applied = applyRestore(held('-A FORWARD -j ACCEPT\n'), '*filter\n-I INPUT -j DROP\nCOMMIT\n');
  t.notOk('refused' in applied);
  t.strictSame([...applied.ruleset.tables.get('filter')!.chains.keys()], ['INPUT', 'FORWARD']);
});

t.test('an incompatible table can be written to, and stays incompatible', async (t) => {
  const applied = applyRestore(held("# Table `filter' is incompatible, use 'nft' tool.\n"), '*filter\n:OURS - [0:0]\n-I FORWARD -j OURS\nCOMMIT\n');
  t.notOk('refused' in applied);
  t.equal(applied.ruleset.tables.get('filter')!.state, 'incompatible');
});
