import t from 'tap';
import { parseSave, readRule, renderRuleset, ruleText, type Family } from '../../agent/node-iptables/src/index.ts';
import { splitWords } from '../../agent/node-iptables/src/save/words.ts';
import { DROP, Folder, check, corpusFile, namesIn, noCorpus, ofPods, run, saved, textOf } from './program.ts';

const folder = new Folder();
t.teardown(() => folder.remove());

const isNft = (name: string): boolean => /nft-(table-)?ip/.test(name);
const isExcerpt = (name: string): boolean => name.startsWith('27-');
const familyOf = (name: string): Family => (name.includes('ip6tables') ? 'ipv6' : 'ipv4');

t.test('every file that people published gets an answer, as JSON, text and picture', { skip: noCorpus }, async (t) => {
  for (const name of namesIn('real')) {
    const file = corpusFile('real', name);
    t.doesNotThrow(() => check([file]), name);
    for (const args of [['check'], ['check', '--output', 'npd'], ['explain'], ['explain', '--format', 'svg'], ['explain', '--output', 'json']]) {
      const { status, stderr, stdout } = run([...args, '--from', file]);
      t.ok((status === 0 || status === 1 || status === 2) && stderr === '' && stdout !== '', `${args.join(' ')} --from ${name}: exit ${status} ${stderr}`);
      if (args.includes('npd')) t.ok(Buffer.byteLength(stdout) <= 80 && stdout.indexOf('\n') === stdout.length - 1, `one short line: ${JSON.stringify(stdout)}`);
    }
  }
});

t.test('parsing loses nothing, and what is rendered is canonical', { skip: noCorpus }, async (t) => {
  for (const name of namesIn('real').filter((one) => !isNft(one))) {
    const family = familyOf(name);
    const text = textOf(corpusFile('real', name));
    const parsed = parseSave(text, { family, backend: 'nft' });
    const lost = [...parsed.unread, ...[...parsed.tables.values()].flatMap((table) => table.unread)];
    t.same(lost.map((line) => line.text), isExcerpt(name) ? text.split('\n').filter((line) => line.trim() === '...') : [], `${name}: nothing is unread but what no program printed`);
    const rendered = renderRuleset(parsed);
    t.equal(renderRuleset(parseSave(rendered, { family, backend: 'nft' })), rendered, `${name}: canonical form stays as it is`);
    const rules = [...parsed.tables.values()].flatMap((table) => [...table.chains.values()].flatMap((chain) => [...chain.rules]));
    t.same(rules.flatMap((rule) => readRule(rule, family).unread), [], `${name}: every word is understood`);
    const written = text.split(/\r?\n/).map((line) => line.replace(/^\[\d+:\d+\] /, '')).filter((line) => line.startsWith('-A '));
    t.equal(rules.length, written.length, `${name}: as many rules as lines`);
    const left = written.map(asWords);
    for (const rule of rules) {
      const words = asWords(ruleText(rule, family));
      const at = left.findIndex((line) => line === words);
      if (at < 0) t.fail(`${name}: ${ruleText(rule, family)}`, { found: words, lines: left.slice(0, 5) });
      else left.splice(at, 1);
    }
    t.same(left, [], `${name}: every line is found again`);
  }
});

/**
 * The words of a line, in no order, less what iptables-save of some version writes and another does not: quotes, the
 * protocol's module, the default of REJECT, `/32`, an old mark, `state` flags in another order.
 */
function asWords(line: string): string {
  const read = splitWords(line);
  if ('broken' in read) throw new Error(read.broken);
  return read.words
    .map((word) => word.replace(/\/(32|128)$/, '').replace(/\/0xffffffff$/, ''))
    .map((word) => (/^[A-Z]+(,[A-Z]+)+$/.test(word) ? word.split(',').sort().join(',') : word))
    .join(' ')
    .replace(/ --reject-with icmp6?-port-unreachable/, '')
    .replace(/ --set-mark (0x\w+)\/\1/, ' --set-xmark $1/$1')
    .replace(/ -m (tcp|udp)(?= )/g, '')
    .split(' ').sort().join(' ');
}

t.test('excerpts, nft text and rubbish are judged as far as they can be read', { skip: noCorpus }, async (t) => {
  t.not(check([corpusFile('real', '27-gke-calico-2019-excerpt-S.txt')]).answer, 'blocked', 'an excerpt proves nothing: `...` may be any rule');
  for (const name of namesIn('real').filter(isNft)) t.not(check([corpusFile('real', name)]).reason, 'CouldNotLook', name);
});

t.test('what is no ruleset is unknown, and never an error', async (t) => {
  const random = Uint8Array.from({ length: 5000 }, (_, at) => (at * 7919 + (at >> 3) * 31) % 256);
  const rubbish: readonly (readonly [string, string | Uint8Array])[] = [
    ['prose', 'Dear Sir,\nthe DROP is on its way.\n'],
    ['binary', random],
    ['zeros', new Uint8Array(4096)],
    ['a line of a megabyte', 'x'.repeat(2 ** 20)],
    ['a rule of a megabyte', saved(`-A FORWARD -m comment --comment ${'x'.repeat(2 ** 20)} --strange -j ACCEPT`, DROP)],
    ['JSON that ends too early', '{"nftables": [{"table": '],
    ['JSON of another kind', '{"hello": 1}'],
    ['an unclosed quotation mark', saved('-A FORWARD -m comment --comment "never ends -j ACCEPT', DROP)],
    ['a table that no kernel has', '*fitler\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j ACCEPT\nCOMMIT\n'],
    ['commands in place of rules', 'iptables -A FORWARD -d 169.254.169.254 -j DROP\n'],
    ['words that every object has', saved('-A FORWARD -p constructor --dport 80 -j __proto__ --toString', '-A FORWARD -j constructor --valueOf', DROP)],
    ['a deletion', saved(DROP, '-D FORWARD 1')],
    ['two tables of one name', `${saved(DROP)}${saved()}`],
    ['a chain called DROP', saved(':DROP - [0:0]', DROP, '-A DROP -j ACCEPT')],
  ];
  for (const [what, content] of rubbish) {
    const report = check([folder.file('rubbish', content)]);
    t.equal(report.targets[0]?.answer, 'unknown', what);
    t.ok(report.targets.every((target) => target.answer !== 'unknown' || target.doubts.length > 0), `${what}: with a reason`);
  }
  t.equal(check([folder.file('empty', '')]).answer, 'open', 'an empty file holds no rules: nothing stops a packet');
});

t.test('forms of a dump that are as good', async (t) => {
  const forms: readonly (readonly [string, string, string?])[] = [
    ['CRLF', saved(DROP).replaceAll('\n', '\r\n')],
    ['with counters', saved(`[12:720] ${DROP}`)],
    ['iptables -S -v', `-P FORWARD ACCEPT -c 1 60\n-A FORWARD -d 169.254.169.254/32 -i eni+ -c 3 180 -j DROP\n`],
    ['iptables -S', `-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-N X\n${DROP}\n`],
    ['no newline at the end', saved(DROP).trimEnd()],
    ['no COMMIT', saved(DROP).replace('COMMIT\n', '')],
    ['-I puts it on top', saved('-A FORWARD -j ACCEPT', DROP.replace('-A FORWARD', '-I FORWARD'))],
    ['-I with a position', saved('-A FORWARD -j LOG', '-A FORWARD -j ACCEPT', DROP.replace('-A FORWARD', '-I FORWARD 2'))],
    ['long options', saved('--append FORWARD --destination 169.254.169.254 --in-interface eni+ --jump DROP')],
    ['tabs', saved(DROP.replaceAll(' ', '\t'))],
    ['something after the name of the table', saved(DROP).replace('*filter', '*filter # mine')],
  ];
  for (const [what, text] of forms) t.equal(ofPods(check([folder.file('form.txt', text)])).answer, 'blocked', what);
  t.equal(ofPods(check([folder.file('below.txt', saved('-A FORWARD -j ACCEPT', DROP.replace('-A FORWARD', '-I FORWARD 2')))])).answer, 'open', '-I with a position below an accept');
});

t.test('iptables-save and ip6tables-save in one file are two families', async (t) => {
  const six = saved('-A FORWARD -i eni+ -j DROP').replaceAll('iptables-save', 'ip6tables-save');
  const report = check([folder.file('both.txt', `${saved()}${six}`)]);
  t.same([ofPods(report, 'ipv4').answer, ofPods(report, 'ipv6').answer], ['open', 'blocked'], 'a drop of IPv6 is none of IPv4');
  const twice = check([folder.file('a.txt', saved(DROP)), folder.file('b.txt', saved())]);
  t.equal(ofPods(twice).answer, 'unknown', 'a table that two files hold');
  t.equal(ofPods(check([folder.file('icmp.txt', saved('-A FORWARD -m comment --comment "no ipv6-icmp here" -j ACCEPT'))])).family, 'ipv4', 'the header says the family, not a comment');
});
