import t from 'tap';
import { spawnSync } from 'node:child_process';
import { REASONS } from '../../agent/core/reasons.ts';
import { DROP, Folder, check, run, saved } from './program.ts';

const folder = new Folder();
t.teardown(() => folder.remove());
const blocked = folder.file('blocked.txt', saved('-A FORWARD -d 169.254.169.254/32 -j DROP'));
const open = folder.file('open.txt', saved('-A FORWARD -i eni+ -m comment --comment "let & <go>" -j ACCEPT', DROP));
const unknown = folder.file('unknown.txt', saved('-A FORWARD -m set --match-set pods src -j ACCEPT', '-A FORWARD -d 169.254.169.254/32 -j DROP'));

t.test('exit says what the answer is', async (t) => {
  for (const command of ['check', 'explain']) t.same([blocked, open, unknown].map((file) => run([command, '--from', file]).status), [0, 1, 2], command);
});

t.test('the report as JSON', async (t) => {
  for (const [file, answer, evidence] of [[blocked, 'blocked', 'proof'], [open, 'open', 'witness'], [unknown, 'unknown', 'doubts']] as const) {
    const report = check([file]);
    t.match(report, { answer, targets: Array, collateral: Array, assumed: Array });
    t.ok(Object.hasOwn(REASONS, report.reason), report.reason);
    t.same(Object.keys(report).sort(), ['answer', 'assumed', 'basis', 'collateral', 'installed', 'message', 'observed', ...(answer === 'blocked' ? ['path'] : []), 'reason', 'targets']);
    t.match(report, { installed: { answer, reason: report.reason }, basis: answer === 'unknown' ? [] : ['rules'], observed: { state: 'not-tried', because: /files/ } }, 'from files: the rules alone');
    for (const target of report.targets) {
      t.match(target, { name: /^\S+ ipv[46]$/, family: /^ipv[46]$/, interface: String, answer: /^(blocked|open|unknown)$/, established: /^(blocked|open|unknown)$/ });
      t.equal(REASONS[target.reason].answer, target.answer, 'the reason is one of that answer');
      t.same(['proof', 'witness', 'doubts'].filter((key) => key in target), [{ blocked: 'proof', open: 'witness', unknown: 'doubts' }[target.answer]], 'one kind of evidence');
    }
    t.ok(evidence in report.targets[0]!, evidence);
    t.equal(run(['check', '--from', file, '--output', 'json']).stdout, run(['check', '--from', file, '--output', 'json']).stdout, 'same input, same bytes');
  }
  t.same(check([blocked]).path, [{ backend: 'nft', family: 'ip', table: 'filter', chain: 'FORWARD' }], 'the chains that a packet enters');
  t.match(check([blocked]).targets[0], { proof: [{ backend: 'nft', table: 'filter', chain: 'FORWARD', number: 1, rule: '-A FORWARD -d 169.254.169.254/32 -j DROP' }] });
  t.match(check([open]).targets[0], { witness: { packet: { in: /^eni/, destination: '169.254.169.254', destinationPort: 80, protocol: 6, state: 'NEW' }, path: [{ hook: 'forward', chain: 'FORWARD', rules: [{ number: 1, does: 'accept' }] }] } });
  t.match(check([unknown]).targets[0], { reason: 'DependsOnState', doubts: [{ why: /ipset pods/, rule: { chain: 'FORWARD', number: 1 } }] });
  const { doubts } = check([unknown]).targets[0] as { doubts: readonly unknown[] };
  t.equal(new Set(doubts.map((doubt) => JSON.stringify(doubt))).size, doubts.length, 'a doubt is told once');
});

t.test('what was not given is assumed, and said', async (t) => {
  const { assumed } = check([blocked]);
  for (const says of [/tables raw, mangle, nat, security were not given/, /iptables-legacy were given: taken as none/, /no native nftables/, /ipv6 was not judged/, /mark 0x0/]) t.ok(assumed.some((text) => says.test(text)), String(says));
  t.ok(!check([blocked], '--from-mark', '0x1').assumed.some((text) => text.includes('mark 0x0')));
});

t.test('neighbours of IMDS that a careless rule cuts off', async (t) => {
  const careless = check([folder.file('careless.txt', saved('-A FORWARD -d 169.254.0.0/16 -i eni+ -j DROP'))]);
  t.match(careless.collateral.find(({ address }) => address === '169.254.169.253'), { answer: 'blocked', by: { rule: /169\.254\.0\.0\/16/ } });
  t.same(check([blocked]).collateral.map(({ answer }) => answer).filter((answer) => answer !== 'open'), [], 'the documented rule cuts off nothing else');
});

t.test('one line for node-problem-detector, 80 bytes at most', async (t) => {
  const many = Array.from({ length: 12 }, (_, at) => `--interface=ééé${at}+`);
  for (const args of [['--from', blocked], ['--from', open], ['--from', unknown], ['--from', open, ...many]]) {
    const { stdout } = run(['check', '--output', 'npd', ...args]);
    t.match(stdout, /^(blocked|open|unknown) [A-Z]\w+[^\n]*\n$/);
    t.ok(Buffer.byteLength(stdout) <= 80, `${Buffer.byteLength(stdout)} bytes`);
    t.notMatch(stdout, /\ufffd/, 'no letter is cut in two');
  }
});

t.test('explain shows the rule that decides, and the one that is never reached', async (t) => {
  const { stdout } = run(['explain', '--from', open, '--target', 'eni+']);
  t.match(stdout, /^eni\+ ipv4: open\n/);
  t.match(stdout, />> {3}FORWARD 1: .*-j ACCEPT/);
  t.match(stdout, /xx {3}FORWARD 2: -A FORWARD -d 169\.254\.169\.254\/32 -i eni\+ -j DROP {3}\[never reached\] {2}\(ours\)/);
  t.match(run(['explain', '--from', blocked]).stdout, /it is dropped there/);
  t.match(JSON.parse(run(['explain', '--from', open, '--output', 'json']).stdout), { explanations: [{ name: 'eni+ ipv4', answer: 'open', fate: 'passed', path: Array }] });
});

t.test('the picture stands alone and is sound XML, whatever a comment holds', async (t) => {
  const hostile = folder.file('hostile.txt', saved('-A FORWARD -i eni+ -m comment --comment "</text><script>alert(1)</script>]]>&\u0001\u001b[31m" -j ACCEPT', DROP));
  for (const file of [open, blocked, unknown, hostile]) {
    const { stdout } = run(['explain', '--from', file, '--format', 'svg']);
    t.match(stdout, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"[\s\S]*<\/svg>\n$/);
    t.notMatch(stdout, /<script|href=|url\(http|[\u0000-\u0008\u000b\u000c\u000e-\u001f]/);
    const opened: string[] = [];
    for (const [, end, name, own] of stdout.matchAll(/<(\/?)([a-z]+)(?:[^<>"]|"[^"<]*")*?(\/?)>/gi)) if (end) t.equal(opened.pop(), name); else if (!own) opened.push(name!);
    t.same(opened, [], 'every element is closed');
  }
});

t.test('escape sequences of a hostile dump do not reach the terminal', async (t) => {
  const hostile = folder.file('escape.txt', saved('-A FORWARD -m comment --comment "\u001b[2J\u001b[1;1Hblocked" -j ACCEPT', DROP));
  for (const args of [['check'], ['explain'], ['check', '--output', 'json']]) t.notMatch(run([...args, '--from', hostile]).stdout, /\u001b/, args.join(' '));
});

const restores = spawnSync('unshare', ['-rn', 'iptables-nft-restore', '--noflush', '--test'], { input: '*filter\nCOMMIT\n' }).status === 0;
t.test('the rules are what iptables-restore takes', { skip: restores ? false : 'NO iptables-nft-restore in namespaces here' }, async (t) => {
  for (const args of [[], ['--layout', 'chain'], ['--interface', 'eni+', '--interface', 'veth+'], ['--backend', 'legacy']])
    for (const [family, tool] of [['ipv4', 'iptables'], ['ipv6', 'ip6tables']] as const) {
      const { stdout, status } = run(['rules', '--family', family, ...args]);
      t.equal(status, 0);
      t.same(stdout.match(/^(\*\S+|COMMIT)$/gm)?.toSorted(), ['*filter', '*mangle', 'COMMIT', 'COMMIT'], 'each table once');
      for (const backend of ['nft', 'legacy'] as const) {
        const { status: accepted, stderr } = spawnSync('unshare', ['-rn', `${tool}-${backend}-restore`, '--noflush', '--test'], { input: stdout, encoding: 'utf8' });
        // Legacy wants its lock file, which only root of the machine may write.
        if (accepted !== 0 && /lock|Permission denied/.test(stderr)) t.comment(`${tool}-${backend}: ${stderr.trim()}`);
        else t.equal(accepted, 0, `${tool}-${backend}-restore ${args.join(' ')} ${stderr}`);
      }
    }
  t.equal(run(['rules']).stdout, run(['rules', '--family', 'ipv4']).stdout);
  t.match(JSON.parse(run(['rules', '--output', 'json']).stdout), { ipv4: /169\.254\.169\.254\/32/, ipv6: /fd00:ec2::254\/128/, rules: Array });
});

const runsNft = spawnSync('unshare', ['-rn', 'nft', '--check', '-f', '-'], { input: 'add table inet tried\n' }).status === 0;
t.test('and the guard table is what nft takes', { skip: runsNft ? false : 'NO nft in namespaces here' }, async (t) => {
  const scriptOf = (...args: readonly string[]): string | undefined => (JSON.parse(run(['rules', '--output', 'json', ...args]).stdout) as { nft?: string }).nft;
  t.same([scriptOf('--guard', 'none'), scriptOf('--guard', 'watched')], [undefined, undefined], 'there is none where nobody writes one, or the daemon does');
  t.equal(scriptOf('--guard', 'plain'), scriptOf());
  for (const [script, ends] of [[scriptOf(), 'counter drop'], [scriptOf('--action', 'reject'), 'reject with tcp reset']] as const) {
    t.ok(script?.includes(`ip daddr 169.254.169.254 ${ends === 'counter drop' ? '' : 'meta l4proto tcp counter '}${ends}\n`), ends);
    const { status, stderr } = spawnSync('unshare', ['-rn', 'nft', '--check', '-f', '-'], { input: script ?? '', encoding: 'utf8' });
    t.same({ status, stderr }, { status: 0, stderr: '' });
  }
});

t.test('the rules that are printed are judged to block', async (t) => {
  const families = (['ipv4', 'ipv6'] as const).map((family) => folder.file(`rules-${family}.txt`, run(['rules', '--family', family]).stdout.replace('*filter\n', '*filter\n:FORWARD ACCEPT [0:0]\n').replace('*mangle\n', '*mangle\n:FORWARD ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n')));
  const report = check(families);
  t.same(report.targets.map(({ name, answer }) => `${name} ${answer}`), ['eni+ ipv4 blocked', 'vlan+ ipv4 blocked', 'eni+ ipv6 blocked', 'vlan+ ipv6 blocked']);
});
