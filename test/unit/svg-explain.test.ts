import t from 'tap';
import { explain, type Explanation } from '../../agent/core/explain.ts';
import { observedFromFiles } from '../../agent/core/from-files.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { explanationSvg } from '../../agent/core/svg-explain.ts';
import { shorten } from '../../agent/core/svg-text.ts';

const explained = (...lines: readonly string[]): Explanation[] =>
  explain(observedFromFiles([{ name: 'rules', text: `${lines.join('\n')}\n` }], {}), DEFAULT_SETTINGS);
const only = (name: string, explanations: readonly Explanation[]): Explanation[] => explanations.filter((one) => one.name === name);

/** Felix above us: it accepts by mark in its own chain, and our rule stands below the jump. */
const CALICO_ABOVE = [
  '*mangle',
  ':FORWARD ACCEPT [0:0]',
  'COMMIT',
  '*filter',
  ':FORWARD ACCEPT [0:0]',
  ':cali-FORWARD - [0:0]',
  ':cali-from-wl-dispatch - [0:0]',
  '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
  '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP',
  '-A FORWARD -d 169.254.0.0/16 -m comment --comment "no link-local" -j DROP',
  '-A cali-FORWARD -i eni+ -m comment --comment "cali:zSuvpsKZMnLBOFg-" -j cali-from-wl-dispatch',
  '-A cali-FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy explicitly accepted packet, as the profile of the namespace has it, and so it goes on its way without looking at anything that another agent may have written below this rule" -m mark --mark 0x10000/0x10000 -j ACCEPT',
  '-A cali-from-wl-dispatch -m comment --comment "cali:qeVcqUuxkHZHAh47" -j MARK --set-xmark 0x10000/0x10000',
  'COMMIT',
];
const OURS_FIRST = ['*filter', ':FORWARD ACCEPT [0:0]', '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP', '-A FORWARD -j ACCEPT', 'COMMIT'];
const KUBE2IAM = ['*nat', ':PREROUTING ACCEPT [0:0]', '-A PREROUTING -d 169.254.169.254/32 -i eni+ -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.3.7:8181', 'COMMIT'];
const UNREADABLE = ['*filter', ':FORWARD ACCEPT [0:0]', '-A FORWARD -m strange --thing 1 -j DROP', 'COMMIT'];

const HOSTILE = [
  '</text><script>alert(1)</script>',
  '" onload="alert(1)',
  "' x='",
  '&#27;&unknown; & &amp;',
  ']]> <![CDATA[ <!-- --> <?xml?>',
  '\x00\x01\x1b[31m\x7f\x85\t\r\n',
  '\ud800 \udfff \ufffe \uffff',
  '\u202eevil\u202c \u2066 \u200b \ufeff \u2028',
  'z\u0338\u0321\u0353'.repeat(30),
  '日本語の規則'.repeat(40),
  '🚨👩‍👩‍👧‍👦'.repeat(20),
  'שלום العربية',
  '$& $1 $` ${x} %s',
  ' '.repeat(300),
  'x'.repeat(5000),
  '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP',
  '--comment imds-guard',
  '',
];

t.test('an accept above our rule is red, and what is below it is struck and never reached', async (t) => {
  const svg = explanationSvg(only('eni+ ipv4', explained(...CALICO_ABOVE)));
  t.match(textsOf(svg), [{ text: 'eni+ ipv4' }, { text: 'OPEN', kind: 'red-on strong' }]);
  t.ok(has(svg, 'filter cali-FORWARD 2 accepts the packet before our rule at FORWARD 2 is reached'));
  t.equal(kindOf(svg, 'cali-FORWARD 2'), 'red strong');
  t.match(svg, 'never reached:');
  t.equal(kindOf(svg, 'FORWARD 2'), 'faint struck');
  t.equal(kindOf(svg, 'FORWARD 3'), 'faint struck');
  t.equal(kindOf(svg, 'imds-guard'), 'ours-on strong', 'ours is named');
  t.ok(has(svg, 'the packet gets here'));
  t.equal(kindOf(svg, 'no rule here took it: policy accept'), 'faint', 'a chain that has no part in it takes one line');
});

t.test('our rule above everything is where the way ends', async (t) => {
  const svg = explanationSvg(only('eni+ ipv4', explained(...OURS_FIRST)));
  t.match(textsOf(svg), [{ text: 'eni+ ipv4' }, { text: 'BLOCKED', kind: 'green-on strong' }]);
  t.ok(has(svg, 'filter FORWARD 1 drops the packet (imds-guard)'));
  t.equal(kindOf(svg, 'FORWARD 1'), 'green strong');
  t.ok(has(svg, 'this packet never gets here'));
  t.notMatch(svg, 'class="red');
});

t.test('a DNAT shows to whom', async (t) => {
  const svg = explanationSvg(only('eni+ ipv4', explained(...KUBE2IAM)));
  t.match(textsOf(svg), [{ text: 'eni+ ipv4' }, { text: 'UNKNOWN', kind: 'amber-on strong' }]);
  t.ok(has(svg, 'Somebody else'));
  t.ok(has(svg, '10.0.3.7:8181'));
});

t.test('a drop that cannot be decided is amber and perhaps', async (t) => {
  const svg = explanationSvg(only('eni+ ipv4', explained(...UNREADABLE)));
  t.equal(kindOf(svg, 'perhaps drop'), 'amber strong');
  t.ok(has(svg, 'the packet may get here'));
  t.match(svg, 'way amber-line doubt');
});

t.test('a long rule is shortened in the middle and whole in its tooltip', async (t) => {
  const svg = explanationSvg(explained(...CALICO_ABOVE));
  const rule = CALICO_ABOVE.find((line) => line.includes('Policy explicitly'))!;
  t.ok(rule.length > 250);
  t.ok(unescaped(svg).includes(`<title>iptables-nft filter cali-FORWARD 2: ${rule}</title>`));
  t.match(textsOf(svg).map(({ text }) => text).find((text) => text.includes('S93hcg')), /^-m comment .*….* -j ACCEPT$/);
  t.ok(numberOf(svg, 'width') < 1400);
});

t.test('an escape is not cut in two', async (t) => {
  for (let most = 3; most < 60; most++) t.notMatch(shorten('\u202e'.repeat(9) + '\x1b'.repeat(9), most), /\\u?\{?[0-9a-f]*…|…(u|\{|[0-9a-fx]*\}|x1b|1b)/);
});

t.test('a chain of thousands of rules is still a picture', async (t) => {
  const many = Array.from({ length: 3000 }, (_, at) => `-A FORWARD -m comment --comment "rule ${at}" -j MARK --set-xmark 0x1/0x1`);
  const svg = explanationSvg(explained('*filter', ':FORWARD ACCEPT [0:0]', ...many, 'COMMIT'));
  t.ok(has(svg, '… 2977 more rules …'));
  t.ok(numberOf(svg, 'height') < 2000);
});

t.test('same explanations, same bytes; nothing that runs and nothing from elsewhere', async (t) => {
  const svg = explanationSvg(explained(...CALICO_ABOVE));
  t.equal(svg, explanationSvg(explained(...CALICO_ABOVE)));
  t.equal(svg.match(/https?:/g)?.length, 1, 'the name of the namespace, which nobody fetches');
  t.notMatch(svg, /<script|<image|<foreignObject|href|url\(|@import| on[a-z]+=/);
  t.match(svg, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="\d+" height="\d+" viewBox="0 0 \d+ \d+" role="img" xml:space="preserve">\n<title>Can pods reach IMDS\? eni\+ ipv4: open/);
  t.match(svg, '<desc>eni+ ipv4: open. filter cali-FORWARD 2 accepts');
  t.ok(svg.endsWith('</svg>\n'));
});

t.test('nothing to explain is said', async (t) => {
  t.same(faultsOf(explanationSvg([])), []);
  t.match(explanationSvg([]), 'Nothing to explain');
});

t.test('no text leaves the picture or lies on another', async (t) => {
  for (const rules of [CALICO_ABOVE, OURS_FIRST, KUBE2IAM, UNREADABLE]) t.same(faultsOf(explanationSvg(explained(...rules))), []);
});

t.test('hostile text leaves the XML well-formed and the picture whole (seeded)', async (t) => {
  const seed = Number(process.env['SEED'] ?? 20261001);
  const draw = drawing(seed);
  for (let round = 0; round < 150; round++) {
    const faults = faultsOf(explanationSvg(Array.from({ length: draw(3) }, () => hostileExplanation(draw))));
    if (faults.length > 0) return t.fail(`seed ${seed}, round ${round}: ${faults.slice(0, 3).join('; ')}`);
  }
  t.pass(`seed ${seed}`);
});

t.test('hostile comments in a ruleset, parsed as any other', async (t) => {
  for (const [at, comment] of HOSTILE.entries()) {
    const printable = comment.replace(/["\\\n]/g, '');
    const rules = CALICO_ABOVE.map((line) => line.replace('cali:zSuvpsKZMnLBOFg-', printable));
    t.same(faultsOf(explanationSvg(explained(...rules))), [], `comment ${at}`);
  }
});

t.test('every pair of ink and ground has a contrast of 4.5 or more', async (t) => {
  const style = /<style>(.*)<\/style>/.exec(explanationSvg([]))![1]!;
  const dark = style.indexOf('@media');
  for (const part of [style.slice(0, dark), style.slice(dark)]) {
    const fill = (kind: string): string => new RegExp(`\\.${kind}\\{fill:(#[0-9a-f]{6})`).exec(part)![1]!;
    const pairs = [['ink', 'ground'], ['ink', 'box'], ['faint', 'ground'], ['faint', 'box']];
    for (const tone of ['green', 'red', 'amber', 'ours', 'plain']) pairs.push([tone, `${tone}-band`], ['ink', `${tone}-band`], [`${tone}-on`, tone], [tone, 'box']);
    for (const [ink, ground] of pairs) t.ok(contrast(fill(ink!), fill(ground!)) >= 4.5, `${ink} on ${ground}: ${contrast(fill(ink!), fill(ground!))}`);
  }
});

interface Text {
  readonly text: string;
  readonly kind: string;
  readonly x: number;
  readonly y: number;
  readonly end: number;
}

/** Every text with its place in the picture; a heading stands in a group that moves and scales it. */
function textsOf(svg: string): Text[] {
  const found = svg.matchAll(/(?:<g transform="translate\(([\d.]+) ([\d.]+)\) scale\(([\d.]+)\)">)?<text x="([\d.]+)" y="([\d.]+)" class="([^"]*)" textLength="([\d.]+)">([^<]*)<\/text>/g);
  return [...found].map(([, dx, dy, scale, x, y, kind, length, text]) => {
    const left = Number(dx ?? 0) + Number(x) * Number(scale ?? 1);
    return { text: unescaped(text!), kind: kind!, x: left, y: Number(dy ?? 0) + Number(y), end: left + Number(length) * Number(scale ?? 1) };
  });
}

function has(svg: string, text: string): boolean {
  return textsOf(svg).some((one) => one.text === text);
}

function kindOf(svg: string, text: string): string | undefined {
  return textsOf(svg).find((one) => one.text === text)?.kind;
}

function numberOf(svg: string, name: string): number {
  return Number(new RegExp(`^<svg [^>]*\\b${name}="([\\d.]+)"`).exec(svg)?.[1]);
}

function unescaped(text: string): string {
  return text.replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"').replace(/&apos;/g, "'").replace(/&amp;/g, '&');
}

function faultsOf(svg: string): string[] {
  const faults = [...malformed(svg)];
  const [width, height] = [numberOf(svg, 'width'), numberOf(svg, 'height')];
  const texts = textsOf(svg);
  if (texts.length !== svg.split('<text ').length - 1) faults.push('a text that was not found');
  for (const { text, x, y, end } of texts) if (!(x >= 0 && end <= width && y > 0 && y < height)) faults.push(`outside: ${text}`);
  const lines = Map.groupBy(texts, ({ y }) => y);
  for (const line of lines.values()) {
    const sorted = line.toSorted((one, other) => one.x - other.x);
    sorted.forEach((one, at) => {
      if (at > 0 && sorted[at - 1]!.end > one.x) faults.push(`"${sorted[at - 1]!.text}" lies on "${one.text}"`);
    });
  }
  for (const [, x, y, wide, high] of svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"/g)) {
    if (Number(x) + Number(wide) > width || Number(y) + Number(high) > height) faults.push(`a box leaves the picture at ${x} ${y}`);
  }
  return faults;
}

/** XML 1.0 as far as a picture needs it: one root, balanced tags, quoted attributes once each, five entities, legal characters. */
function* malformed(xml: string): Generator<string> {
  const illegal = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u.exec(xml);
  if (illegal) yield `illegal character U+${illegal[0].codePointAt(0)!.toString(16)}`;
  const open: string[] = [];
  let rest = xml;
  let roots = 0;
  while (rest !== '') {
    const token = /^(?:<(\/?)([A-Za-z]+)((?: [A-Za-z:]+="(?:[^<&"]|&(?:amp|lt|gt|quot|apos);)*")*)(\/?)>|((?:[^<>&]|&(?:amp|lt|gt|quot|apos);)+))/.exec(rest);
    if (!token) return yield `no token at ${JSON.stringify(rest.slice(0, 60))}`;
    rest = rest.slice(token[0].length);
    const [, closing, name, attributes, empty, text] = token;
    if (text !== undefined) {
      if (open.length === 0 && text.trim() !== '') yield `text outside the root: ${text}`;
      continue;
    }
    const names = [...attributes!.matchAll(/ ([A-Za-z:]+)=/g)].map(([, one]) => one);
    if (new Set(names).size < names.length) yield `an attribute twice: ${token[0]}`;
    if (closing === '/') {
      if (open.pop() !== name) yield `</${name}> closes another`;
    } else {
      if (open.length === 0) roots++;
      if (empty === '') open.push(name!);
    }
  }
  if (open.length > 0) yield `never closed: ${open.join(' ')}`;
  if (roots !== 1) yield `${roots} roots`;
}

type Draw = (below: number) => number;

/** mulberry32 */
function drawing(seed: number): Draw {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function hostileExplanation(draw: Draw): Explanation {
  const of = <Value>(values: readonly Value[]): Value => values[draw(values.length)]!;
  const text = (): string => Array.from({ length: draw(4) }, () => (draw(3) === 0 ? String.fromCharCode(...Array.from({ length: draw(20) }, () => draw(0x10000))) : of(HOSTILE))).join('');
  const rule = () => ({
    backend: of(['nft', 'legacy', 'nft-native'] as const),
    family: of(['ip', 'ip6', text()]),
    table: of(['filter', text()]),
    chain: of(['FORWARD', 'IMDS-GUARD', text()]),
    number: draw(5),
    rule: `-A FORWARD ${text()} -j ${text()}`,
  });
  const does = (): string => of(['accept', 'drop', 'reject', 'unread', 'return', 'go on', 'jump x', `goto ${text()}`, `redirect to ${text()}`, text()]);
  const list = <Value>(most: number, one: () => Value): Value[] => Array.from({ length: draw(most) }, one);
  return {
    name: text(),
    answer: of(['blocked', 'open', 'unknown'] as const),
    packet: { in: text(), out: text(), source: text().slice(0, 40), destination: of(['169.254.169.254', 'fd00:ec2::254']), protocol: of([6, 17, 255]), sourcePort: 1, destinationPort: 80, state: 'NEW', mark: 'unknown' },
    path: list(4, () => ({ ...rule(), hook: of(['forward', text()]), priority: draw(900) - 400, rules: list(40, () => ({ ...rule(), does: does() })), shadowed: list(12, () => ({ ...rule(), ours: draw(2) === 0 })) })),
    fate: of(['passed', 'dropped', 'redirected'] as const),
    by: rule(),
    doubtful: draw(2) === 0,
  };
}

/** WCAG 2 */
function contrast(one: string, other: string): number {
  const lights = [one, other].map((colour) => {
    const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  });
  return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
}
