import t from 'tap';
import { type Family, parseSave, readRule, renderRuleset, ruleText } from '../../agent/node-iptables/src/index.ts';
import { splitWords } from '../../agent/node-iptables/src/save/words.ts';

const ruleOf = (line: string) => [...parseSave(`${line}\n`, { family: 'ipv4', backend: 'nft' }).tables.get('filter')!.chains.values()].flatMap((chain) => [...chain.rules])[0]!;
const canonical = (line: string, family: Family = 'ipv4'): string => ruleText(ruleOf(line), family);

t.test('what was written, as iptables-save prints it (measured)', async (t) => {
  const forms: readonly (readonly [string, string, Family?])[] = [
    ['-A FORWARD -i eni+ -d 192.0.2.7 -s 0/0 -j DROP', '-A FORWARD -d 192.0.2.7/32 -i eni+ -j DROP'],
    ['-A FORWARD -i eni+ -d 192.0.2.7 -s 0.0.0.0/0 -j DROP', '-A FORWARD -d 192.0.2.7/32 -i eni+ -j DROP'],
    ['-A FORWARD -p tcp --dport 80 -j REJECT', '-A FORWARD -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable'],
    ['-A FORWARD -j REJECT', '-A FORWARD -j REJECT --reject-with icmp6-port-unreachable', 'ipv6'],
    ['-A FORWARD -m mark --mark 0x0080/0x0080 -j DROP', '-A FORWARD -m mark --mark 0x80/0x80 -j DROP'],
    ['-A FORWARD -p 6 --syn -j DROP', '-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP'],
    ['-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT', '-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT'],
    ['-A FORWARD -m comment --comment "word" -j ACCEPT', '-A FORWARD -m comment --comment word -j ACCEPT'],
    ['-A FORWARD -m comment --comment "a \\"b\\" c" -j ACCEPT', '-A FORWARD -m comment --comment "a \\"b\\" c" -j ACCEPT'],
    ['-A FORWARD -d FD00:0EC2::0254 -j DROP', '-A FORWARD -d fd00:ec2::254/128 -j DROP', 'ipv6'],
    ['-A FORWARD -s ! 10.0.0.0/255.0.0.0 -j DROP', '-A FORWARD ! -s 10.0.0.0/8 -j DROP'],
    ['-A FORWARD -m newthing --with "a b" ! --or c -j TARGET', '-A FORWARD -m newthing --with "a b" ! --or c -j TARGET'],
  ];
  for (const [written, printed, family] of forms) {
    t.equal(canonical(written, family), printed, written);
    t.equal(canonical(printed, family), printed, 'and that stays');
  }
});

t.test('no word gets lost, whatever it is', async (t) => {
  for (const line of ['-A FORWARD constructor', '-A FORWARD -p constructor --dport 80 -j __proto__ --valueOf x', '-A FORWARD -m toString --x -j hasOwnProperty', '-A FORWARD stray -j ACCEPT', '-A FORWARD -j ACCEPT -j DROP', '-A FORWARD ! -m tcp -j ACCEPT', '-A FORWARD -j MARK constructor', '-A FORWARD -s 10.0.0.1/32 -s 10.0.0.2/32']) {
    const words = (text: string): string[] => line.split(' ').filter((word) => text.split(' ').includes(word));
    t.same(words(canonical(line)), line.split(' '), line);
    t.not(readRule(ruleOf(line), 'ipv4').unread.length, 0, `${line} is not all understood`);
  }
});

t.test('lines that are no rules are kept, with their number', async (t) => {
  const parsed = parseSave('hello\n*filter\n:FORWARD ACCEPT [1:2]\nwhat\n-A\n-D FORWARD 1\n[x] -A FORWARD\n-A FORWARD -m comment --comment "open\n-I FORWARD 9 -j ACCEPT\n:only\nCOMMIT\nafter\n', { family: 'ipv4', backend: 'nft' });
  t.same(parsed.unread.map(({ line, text }) => [line, text]), [[1, 'hello'], [12, 'after']]);
  t.same(parsed.tables.get('filter')!.unread.map(({ line }) => line), [4, 5, 6, 7, 8, 9, 10]);
  t.equal(renderRuleset(parsed), '*filter\n:FORWARD ACCEPT [1:2]\nCOMMIT\n');
  const again = parseSave('*filter\n:X - [0:0]\nCOMMIT\n*filter\n:X - [0:0]\nCOMMIT\n*nat\n:A - [0:0]\n:A - [0:0]\nCOMMIT\n', { family: 'ipv4', backend: 'nft' });
  t.match(again.tables.get('filter')!.unread, [{ line: 4, text: '*filter', because: /began before/ }, { line: 5 }]);
  t.match(again.tables.get('nat')!.unread, [{ line: 9, because: /declared before/ }]);
});

t.test('counters and positions', async (t) => {
  const parsed = parseSave('*filter\n:FORWARD ACCEPT [7:700]\n[3:180] -A FORWARD -j A\n-A FORWARD -c 4 240 -j B\n-I FORWARD -j C\n-I FORWARD 2 -j D\nCOMMIT\n', { family: 'ipv4', backend: 'nft' });
  t.equal(renderRuleset(parsed, { counters: true }), '*filter\n:FORWARD ACCEPT [7:700]\n[0:0] -A FORWARD -j C\n[0:0] -A FORWARD -j D\n[3:180] -A FORWARD -j A\n[4:240] -A FORWARD -j B\nCOMMIT\n');
});

t.test('words are cut as iptables-restore cuts them', async (t) => {
  t.same(splitWords('-A  X\t"a b" "" c"d"e "\\"q\\\\"'), { words: ['-A', 'X', 'a b', '', 'cd', 'e', '"q\\'], quoted: undefined });
  t.same(splitWords('--comment "-j"'), { words: ['--comment', '-j'], quoted: new Set([1]) });
  t.match(splitWords('"open'), { broken: String });
});
