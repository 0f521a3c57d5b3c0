// Tables of nftables' own, beside those of iptables: other priorities, other words for the same questions.
import { type Scene, SERVICE, markMask, markValue } from './generate.ts';
import type { Random } from './random.ts';
import type { FuzzChain, FuzzTable } from './ruleset.ts';

type Hook = 'prerouting' | 'forward' | 'postrouting';

/** Those of iptables' chains, so that the order is a question, those between, and both ends. */
const PRIORITIES: Readonly<Record<Hook, readonly number[]>> = {
  prerouting: [-400, -300, -250, -199, -150, -101, -100, 0, 300],
  forward: [-300, -150, -10, 0, 0, 10, 50, 100],
  postrouting: [-150, 0, 99, 100, 101, 300],
};

export const nativeTables = (random: Random, scene: Scene, decidable: boolean): FuzzTable[] =>
  Array.from({ length: random.chance(0.2) ? 2 : 1 }, (_, at) => nativeTable(random, scene, decidable, at));

function nativeTable(random: Random, scene: Scene, decidable: boolean, number: number): FuzzTable {
  const family = random.chance(0.6) ? 'inet' : 'ip';
  const chains: FuzzChain[] = [];
  const bases = 1 + random.int(3);
  for (let base = 0; base < bases; base++) {
    const hook = random.weighted([[25, 'prerouting'], [60, 'forward'], [15, 'postrouting']] as const);
    const name = `${hook}-${base}`;
    if (hook === 'postrouting' && random.chance(0.3)) {
      const rules = [`${random.pick(['ct mark 0', 'meta mark 0', 'oifname "ens*"', `ip daddr ${SERVICE}`])} ${random.pick(['masquerade', 'accept', 'return'])}`];
      chains.push({ name, policy: `type nat hook postrouting priority ${random.pick([90, 100, 110])}; policy accept;`, rules });
      continue;
    }
    const maker = new NativeRules(random, scene, { hook, family, decidable });
    const own = Array.from({ length: random.int(3) }, (_, at) => `${name}-${at}`);
    const drops = random.chance(hook === 'forward' ? 0.12 : 0.02);
    const rules = maker.rules(1 + random.int(5), own);
    if (drops && random.chance(0.9)) rules.unshift(random.pick(['ct state established,related accept', 'ct direction reply accept', `ip saddr ${SERVICE} accept`]));
    if (drops && random.chance(0.6)) rules.push(maker.rule(own, 'accept'));
    chains.push({ name, policy: `type filter hook ${hook} priority ${decidable ? random.pick(PRIORITIES[hook]) : random.pick([-200, ...PRIORITIES[hook]])}; policy ${drops ? 'drop' : 'accept'};`, rules });
    for (const [at, chain] of own.entries()) chains.push({ name: chain, policy: '', rules: maker.rules(random.int(4), own.slice(at + 1)) });
  }
  return { name: `${family} fuzz${number}`, chains };
}

const topicOf = (match: string): string => (/l4proto|protocol|^tcp|^th/.test(match) ? 'protocol' : match.split(' ').slice(0, 2).join(' '));

class NativeRules {
  private readonly random: Random;
  private readonly scene: Scene;
  private readonly hook: Hook;
  private readonly family: 'ip' | 'inet';
  private readonly decidable: boolean;
  constructor(random: Random, scene: Scene, place: { hook: Hook; family: 'ip' | 'inet'; decidable: boolean }) {
    this.random = random;
    this.scene = scene;
    this.hook = place.hook;
    this.family = place.family;
    this.decidable = place.decidable;
  }

  rules(count: number, targets: readonly string[]): string[] {
    return Array.from({ length: count }, () => this.rule(targets));
  }

  rule(targets: readonly string[], forced?: string): string {
    const { random } = this;
    if (forced === undefined && random.chance(0.1)) return this.verdictMap(targets);
    const statement = forced ?? this.statement(targets);
    const wanted = 1 + random.int(3);
    const drawn = Array.from({ length: /mark set|counter$/.test(statement) ? random.int(3) : wanted }, () => this.match());
    // nft refuses two protocols in one rule, as the contradiction it nearly always is.
    const matches = drawn.filter((match, at) => drawn.findIndex(other => topicOf(other) === topicOf(match)) === at && !(statement.includes('tcp reset') && /l4proto|protocol/.test(match)));
    // Answers are let through nearly always: a conversation that dies on its way back is `unknown`.
    if (/drop|reject/.test(statement) && random.chance(0.85)) matches.unshift(`ip daddr ${SERVICE}`);
    return [...matches, ...(random.chance(0.2) ? ['counter'] : []), statement].join(' ');
  }

  private statement(targets: readonly string[]): string {
    const { random, hook } = this;
    const jump = targets.length > 0 ? random.pick(targets) : undefined;
    return random.weighted([
      [18, 'accept'],
      [24, 'drop'],
      [hook === 'forward' ? 4 : 0, random.pick(['reject', 'reject with tcp reset', 'reject with icmp type admin-prohibited'])],
      [7, 'return'],
      [4, 'counter'],
      [jump === undefined ? 0 : 30, `jump ${jump}`],
      [jump === undefined ? 0 : 5, `goto ${jump}`],
      [10, `meta mark set ${random.pick([markValue(random), `meta mark | ${markValue(random)}`, `meta mark & ${markMask(random)}`, `meta mark ^ ${markValue(random)}`, 'ct mark'])}`],
      [6, `ct mark set ${random.pick([markValue(random), 'meta mark', `ct mark | ${markValue(random)}`])}`],
      [hook === 'prerouting' ? 4 : 0, 'notrack'],
    ]);
  }

  private match(): string {
    const { random, scene, hook } = this;
    const pod = random.pick(scene.pods);
    const other = random.pick(scene.pods);
    const not = random.chance(0.2) ? '!= ' : '';
    const withIn = hook !== 'postrouting' || random.chance(0.5);
    const name = withIn ? random.pick(['"eni*"', '"vlan*"', '"cali*"', `"${pod.interface}"`, `{ "${pod.interface}", "${other.interface}" }`]) : random.pick(['"ens5"', '"ens*"', '"vlan.eth*"']);
    const state = random.pick(['new', 'new', 'established', 'established,related', 'invalid', 'untracked', '{ new, established }', 'new,untracked']);
    const type = random.weighted<string>([
      [26, `${withIn ? 'iifname' : 'oifname'} ${not}${name}`],
      [12, `ip saddr ${not}${random.pick([pod.address, '10.0.1.0/24', '10.0.0.0/16', `{ ${pod.address}, 10.0.9.0/24 }`, '10.0.1.100-10.0.1.110'])}`],
      [10, `ip daddr ${not}${random.pick([SERVICE, SERVICE, '169.254.0.0/16', `{ ${SERVICE}, 192.0.2.1 }`, '10.0.0.0/8'])}`],
      [14, `tcp dport ${not}${random.pick(['80', '80', '{ 80, 443 }', '1-1023', '443', '{ 22, 8000-9000 }'])}`],
      [4, random.pick(['tcp sport >= 1024', 'tcp sport < 20000', 'th dport 80', 'tcp sport { 1024-30000 }'])],
      [5, random.pick(['meta l4proto tcp', 'ip protocol tcp', 'meta l4proto { tcp, udp }', 'meta l4proto != udp', 'meta l4proto udp'])],
      [5, random.pick(['tcp flags syn', 'tcp flags & (fin | syn | rst | ack) == syn', 'tcp flags & (fin | syn | rst | ack) != syn', 'tcp flags & ack == ack', 'tcp flags & syn == 0'])],
      [16, `ct state ${state.startsWith('{') || state.includes(',') ? '' : not}${state}`],
      [4, `ct direction ${random.pick(['original', 'reply'])}`],
      [9, `meta mark ${random.pick([`${not}${markValue(random)}`, `& ${markMask(random)} ${random.pick(['==', '!='])} ${random.pick(['0x0', '0x1', '0x2'])}`])}`],
      [5, `ct mark ${random.pick([`${not}${markValue(random)}`, `& ${markMask(random)} ${random.pick(['==', '!='])} ${random.pick(['0x0', '0x1'])}`])}`],
      [2, `fib daddr type ${not}${this.decidable ? 'local' : random.pick(['local', 'unicast'])}`],
      [2, `iifname . ip saddr ${withIn ? `{ "${pod.interface}" . ${pod.address}, "${other.interface}" . ${other.address} }` : '{ "lo" . 127.0.0.1 }'}`],
      [this.family === 'inet' ? 2 : 0, 'meta nfproto ipv4'],
      [1, `meta pkttype ${random.pick(['host', 'unicast', 'broadcast'])}`.replace('unicast', 'host')],
    ]);
    return type;
  }

  private verdictMap(targets: readonly string[]): string {
    const { random, scene } = this;
    const verdict = (): string => random.pick(['accept', 'drop', 'return', 'continue', ...(targets.length > 0 ? [`jump ${random.pick(targets)}`, `goto ${targets[0]}`] : [])]);
    return random.pick([
      `ct state vmap { new : ${verdict()}, established : ${random.pick(['accept', 'accept', verdict()])}, related : accept }`,
      `ip daddr ${SERVICE} iifname vmap { ${scene.pods.map(pod => `"${pod.interface}" : ${verdict()}`).join(', ')} }`,
      `ip saddr vmap { ${scene.pods[1]!.address} : ${verdict()}, 10.0.2.0/24 : ${verdict()} }`,
      `ip daddr ${SERVICE} tcp dport vmap { 80 : ${verdict()}, 443 : drop }`,
      `meta mark vmap { 0x0 : ${random.pick(['accept', 'continue'])}, 0x1 : ${verdict()}, 0x2 : ${verdict()} }`,
    ]);
  }
}
