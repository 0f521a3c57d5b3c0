// Random rulesets that a kernel takes and that matter to the traffic between pods and 169.254.169.254:80. Pure: the
// seed decides everything. Values are drawn from a small pool, so that rules meet the packets and each other.
import { nativeTables } from './generate-native.ts';
import { type Random, randomOf } from './random.ts';
import type { FuzzChain, FuzzRuleset, FuzzTable } from './ruleset.ts';

/** Who sends, and by which interfaces: what rules may speak of. */
export interface Scene {
  readonly pods: readonly ScenePod[];
}
export interface ScenePod {
  /** The host's end of the pod's link, by which its packets come in. */
  readonly interface: string;
  readonly address: string;
  /** The interface by which its packets leave for the service. */
  readonly out: string;
}

export const SERVICE = '169.254.169.254';

export function generate(seed: number, scene: Scene): FuzzRuleset {
  const random = randomOf(seed);
  const use = random.weighted([[40, 'nft'], [30, 'legacy'], [30, 'both']] as const);
  const decidable = !random.chance(0.08);
  const tables = (): FuzzTable[] => new TableMaker(random, scene, decidable).tables();
  return {
    seed,
    nft: use === 'legacy' ? [] : tables(),
    legacy: use === 'nft' ? [] : tables(),
    native: random.chance(0.35) ? nativeTables(random, scene, decidable) : [],
    decidable,
  };
}

/** Marks from few bits, so that what one rule sets another one finds. */
export const markValue = (random: Random): string => random.pick(['0x0', '0x1', '0x2', '0x3', '0x4', '0x10000', '0x80000000']);
export const markMask = (random: Random): string => random.pick(['0x1', '0x2', '0x3', '0x7', '0x10000', '0xffff', '0xffffffff', '0x80000001']);

type TableName = 'raw' | 'mangle' | 'nat' | 'filter' | 'security';
/** Chains of the kernel that forwarded packets meet, by table. */
const HOOKED: Readonly<Record<TableName, readonly string[]>> = {
  raw: ['PREROUTING'],
  mangle: ['PREROUTING', 'FORWARD', 'POSTROUTING'],
  nat: ['PREROUTING', 'POSTROUTING'],
  filter: ['FORWARD'],
  security: ['FORWARD'],
};
const ALL_CHAINS: Readonly<Record<TableName, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  security: ['INPUT', 'FORWARD', 'OUTPUT'],
};

/** Where a rule stands: its table, and the kernel's chain that leads to it. */
interface Spot {
  readonly table: TableName;
  readonly hook: string;
  /** Interfaces of the other direction can only be named in chains that the kernel does not call itself. */
  readonly own: boolean;
  /** Chains that may be jumped to: later ones, so that there is no loop. */
  readonly targets: readonly string[];
}

class TableMaker {
  private readonly random: Random;
  private readonly scene: Scene;
  private readonly decidable: boolean;
  constructor(random: Random, scene: Scene, decidable: boolean) {
    this.random = random;
    this.scene = scene;
    this.decidable = decidable;
  }

  tables(): FuzzTable[] {
    const { random } = this;
    const used: TableName[] = [];
    if (random.chance(0.2)) used.push('raw');
    if (random.chance(0.4)) used.push('mangle');
    if (random.chance(0.25)) used.push('nat');
    if (random.chance(0.93)) used.push('filter');
    if (random.chance(0.1)) used.push('security');
    return used.map(name => this.table(name));
  }

  private table(table: TableName): FuzzTable {
    const { random } = this;
    const chains: FuzzChain[] = [];
    for (const name of ALL_CHAINS[table]) {
      if (!HOOKED[table].includes(name)) {
        chains.push({ name, policy: 'ACCEPT', rules: [] });
        continue;
      }
      const busy = table === 'filter' || random.chance(0.75);
      // nat chains are called for translations; filtering there is refused, and each has its own targets.
      const own = Array.from({ length: busy && random.chance(0.7) ? 1 + random.int(table === 'filter' ? 4 : 2) : 0 }, (_, at) => `${name.slice(0, 3)}-${at}`);
      const policy = random.chance(table === 'filter' ? 0.3 : table === 'nat' ? 0 : 0.03) ? 'DROP' : 'ACCEPT';
      const rules = busy ? this.rules({ table, hook: name, own: false, targets: own }, 1 + random.int(table === 'filter' ? 6 : 3)) : [];
      // Whoever drops by policy lets answers back in, nearly always.
      if (policy === 'DROP' && random.chance(0.96)) rules.unshift(this.answersBack(name));
      if (policy === 'DROP' && random.chance(0.5)) rules.push(this.rule({ table, hook: name, own: false, targets: own }, '-j ACCEPT'));
      chains.push({ name, policy, rules });
      for (const [at, chain] of own.entries()) {
        chains.push({ name: chain, policy: '-', rules: this.rules({ table, hook: name, own: true, targets: own.slice(at + 1) }, random.int(5)) });
      }
    }
    return { name: table, chains };
  }

  private rules(spot: Spot, count: number): string[] {
    return Array.from({ length: count }, () => this.rule(spot));
  }

  private answersBack(hook: string): string {
    const { random } = this;
    if (hook !== 'FORWARD') return `-s ${SERVICE}/32 -j ACCEPT`;
    return random.pick([
      '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-m state --state ESTABLISHED -j ACCEPT',
      '-m conntrack --ctdir REPLY -j ACCEPT',
      `-s ${SERVICE}/32 -j ACCEPT`,
      `-s ${SERVICE}/32 -p tcp -m tcp --sport 80 -j ACCEPT`,
      `-p tcp -m tcp ! --syn -j ACCEPT`,
    ]);
  }

  private rule(spot: Spot, forced?: string): string {
    const { random } = this;
    const about = random.weighted([[72, 'request'], [9, 'answer'], [19, 'any']] as const);
    const target = forced ?? this.target(spot, about);
    const drops = /DROP|REJECT/.test(target);
    const words: string[] = [];
    if (about === 'answer') {
      words.push(random.chance(0.6) ? `-s ${SERVICE}/32` : this.interfaceWords(spot, 'answer') || `-s ${SERVICE}/32`);
    } else if (about === 'request' && random.chance(drops ? 0.75 : 0.4)) {
      words.push(`-d ${random.pick([`${SERVICE}/32`, `${SERVICE}/32`, SERVICE, '169.254.0.0/16', '169.254.169.0/255.255.255.0'])}`);
    }
    // The answer to a translated source must come back by the link that the request took, and these addresses are the uplink's.
    if (target.includes('SNAT')) words.splice(0, words.length, '-o ens5');
    // DROP without a match would end most conversations at the first such rule.
    const atLeast = /DROP|REJECT|ACCEPT|-g |RETURN/.test(target) && words.length === 0 ? 1 : 0;
    const wanted = Math.max(atLeast, random.weighted([[25, 0], [35, 1], [25, 2], [15, 3]] as const));
    const seen = new Set(words.map(option => option.replace('! ', '').split(' ')[0]!));
    for (let tries = 0, made = 0; made < wanted && tries < 12; tries++) {
      const match = this.match(spot, about);
      const option = match.replace(/^! /, '').split(' ')[match.startsWith('-m') ? 1 : 0]!;
      if (match === '' || seen.has(option)) continue;
      // What lets a request pass and ends what comes after it is `unknown`: kept rare.
      if (drops && !/NEW|INVALID|UNTRACKED/.test(match.replace('! --ctstate NEW', '')) && LATER.test(match) && random.chance(0.85)) continue;
      seen.add(option);
      words.push(match);
      made++;
    }
    if (target.includes('TCPMSS') && !words.some(word => word.startsWith('-m tcp'))) words.push('-m tcp --syn');
    else if (target.includes('TCPMSS')) return this.rule(spot, forced);
    if (needsTcp([...words, target]) && !seen.has('-p')) words.unshift('-p tcp');
    else if (needsTcp([...words, target])) {
      const at = words.findIndex(word => /^(! )?-p /.test(word));
      words[at] = '-p tcp';
    }
    // `-p` loads the module that later words need.
    words.sort((a, b) => Number(/^(! )?-p /.test(b)) - Number(/^(! )?-p /.test(a)));
    if (random.chance(0.1)) words.push(`-m comment --comment ${random.pick(['plain', '"two words"', '"a \\"quoted\\" -j DROP"', '"!"'])}`);
    return [...words, target].filter(word => word !== '').join(' ');
  }

  private interfaceWords(spot: Spot, about: 'request' | 'answer' | 'any'): string {
    const { random, scene } = this;
    const canIn = spot.own || spot.hook !== 'POSTROUTING';
    const canOut = spot.own || spot.hook !== 'PREROUTING';
    const asksIn = canIn && (!canOut || random.chance(0.6));
    const podSide = about === 'answer' ? !asksIn : about === 'request' ? asksIn : random.chance(0.7);
    const pod = random.pick(scene.pods);
    const name = podSide
      ? random.pick([pod.interface, pod.interface, 'eni+', 'eni+', 'vlan+', 'cali+', 'en+', 'e+', `${pod.interface.slice(0, 6)}+`, 'veth+', 'eth0'])
      : random.pick([pod.out, pod.out, 'ens5', 'ens+', 'e+', 'vlan.eth+', 'vlan+', 'eth0']);
    return `${random.chance(0.22) ? '! ' : ''}${asksIn ? '-i' : '-o'} ${name}`;
  }

  private match(spot: Spot, about: 'request' | 'answer' | 'any'): string {
    const { random, scene } = this;
    const not = (probability = 0.2): string => (random.chance(probability) ? '! ' : '');
    const pod = random.pick(scene.pods);
    const podBlock = (): string =>
      random.pick([pod.address, `${pod.address}/32`, `${pod.address}/32`, '10.0.1.0/24', '10.0.0.0/16', '10.0.0.0/8', '10.0.1.96/29', '10.0.2.0/255.255.255.0', '192.168.0.0/16', '0.0.0.0/0']);
    const ports = (): string => random.pick(['80', '80', '80', '80:443', '1:1023', ':80', '80:', '443', '1024:65535']);
    const clientPorts = (): string => random.pick(['1024:', '1024:65535', '1024:30000', '30001:65535', ':1023', '20000:40000']);
    const state = (): string =>
      random.weighted([
        [30, 'NEW'], [20, 'ESTABLISHED'], [22, 'RELATED,ESTABLISHED'], [8, 'INVALID'], [6, 'UNTRACKED'],
        [5, 'NEW,ESTABLISHED'], [4, 'INVALID,UNTRACKED'], [3, 'NEW,UNTRACKED'], [3, 'NEW,RELATED,ESTABLISHED'],
      ] as const);
    const type = random.weighted<() => string>([
      [26, () => this.interfaceWords(spot, about)],
      [12, () => {
        const block = podBlock();
        // iptables-nft cannot say `! -s 0.0.0.0/0`.
        return `${block === '0.0.0.0/0' ? '' : not()}${about === 'answer' ? '-d' : '-s'} ${block}`;
      }],
      [6, () => (about === 'answer' ? '' : `${not(0.3)}-d ${random.pick([`${SERVICE}/32`, '169.254.0.0/16', '10.0.0.0/8', '192.0.2.1/32'])}`)],
      [4, () => random.pick(['-p tcp', '-p tcp', '-p udp', '! -p udp', '! -p tcp', '-p 6', '-p all'])],
      [12, () => (about === 'answer' ? `-m tcp ${not()}--sport ${ports()}` : `-m tcp ${not()}--dport ${ports()}`)],
      [4, () => (about === 'answer' ? `-m tcp ${not()}--dport ${clientPorts()}` : `-m tcp ${not()}--sport ${clientPorts()}`)],
      [7, () => `-m multiport ${not()}${random.pick(['--dports 80', '--dports 80,443', '--dports 22,53,8000:9000', '--sports 1024:65535', '--ports 80', '--ports 443,8080', '--dports 1:79,81:65535', '--sports 80,443'])}`],
      [6, () => `-m tcp ${not()}${random.pick(['--syn', '--tcp-flags FIN,SYN,RST,ACK SYN', '--tcp-flags SYN,ACK SYN,ACK', '--tcp-flags SYN SYN', '--tcp-flags ACK ACK', '--tcp-flags ALL NONE', '--tcp-flags RST RST'])}`],
      [16, () => (random.chance(0.8) ? `-m conntrack ${not()}--ctstate ${state()}` : `-m state ${not()}--state ${state()}`)],
      [4, () => `-m conntrack --ctdir ${random.pick(['ORIGINAL', 'ORIGINAL', 'REPLY'])}`],
      [10, () => `-m mark ${not(0.35)}--mark ${random.chance(0.6) ? this.maskedMark() : markValue(random)}`],
      [6, () => `-m connmark ${not(0.35)}--mark ${random.chance(0.6) ? this.maskedMark() : markValue(random)}`],
      [3, () => `-m addrtype ${not(0.4)}${random.pick(['--dst-type LOCAL', '--dst-type UNICAST', '--src-type LOCAL', '--src-type UNICAST', '--dst-type BROADCAST', '--src-type MULTICAST'])}`],
      [4, () => `-m iprange ${not()}${about === 'answer' ? '--dst-range' : random.pick(['--src-range', '--src-range', '--dst-range'])} ${random.pick(['10.0.1.100-10.0.1.110', '10.0.0.0-10.0.2.102', `169.254.0.0-${SERVICE}`, `${pod.address}-${pod.address}`])}`],
      [1, () => `-m pkttype ${not()}--pkt-type ${random.pick(['unicast', 'broadcast'])}`],
      [1, () => (spot.hook === 'POSTROUTING' ? `-m owner ${not(0.5)}--uid-owner 0` : '')],
      [this.decidable ? 0 : 22, () => this.undecidable(spot, about)],
    ]);
    return type();
  }

  private maskedMark(): string {
    const value = markValue(this.random);
    const mask = markMask(this.random);
    return `0x${((Number(value) & Number(mask)) >>> 0).toString(16)}/${mask}`;
  }

  /** Matches whose outcome a ruleset does not show, or that no reader knows: never worth a `blocked` or an `open`. */
  private undecidable(spot: Spot, about: 'request' | 'answer' | 'any'): string {
    const { random } = this;
    const not = random.chance(0.3) ? '! ' : '';
    return random.pick([
      '-m limit --limit 1/sec --limit-burst 1',
      '-m limit --limit 1000/sec --limit-burst 1000',
      '-m statistic --mode random --probability 0.5',
      `-m statistic --mode nth --every 2 --packet ${random.int(2)}`,
      `-m ttl ${random.pick(['--ttl-lt 10', '--ttl-gt 10'])}`,
      `-m length ${not}--length ${random.pick(['0:80', '60', '1:1500'])}`,
      `-m conntrack ${not}--ctstatus ${random.pick(['ASSURED', 'SEEN_REPLY', 'CONFIRMED', 'NONE', 'EXPECTED'])}`,
      `-m conntrack ${not}--ctorigdst ${SERVICE}`,
      `-m conntrack ${not}--ctorigsrc 10.0.0.0/16`,
      `-m conntrack ${not}--ctstate ${random.pick(['SNAT', 'DNAT', 'NEW,SNAT'])}`,
      `-m connbytes ${not}--connbytes 0:1000 --connbytes-dir both --connbytes-mode bytes`,
      `-m string ${not}--string "GET" --algo bm`,
      `-m tos ${not}--tos 0x0/0xff`,
      about === 'answer' ? `${not}-d 10.0.0.101/255.0.255.255` : `${not}-s 10.0.1.101/255.0.255.255`,
      spot.hook === 'PREROUTING' ? `-m addrtype ${not}--dst-type LOCAL --limit-iface-in` : `-m realm ${not}--realm 0`,
    ]);
  }

  private target(spot: Spot, about: 'request' | 'answer' | 'any'): string {
    const { random } = this;
    const { table, hook, targets } = spot;
    const jump = targets.length > 0 ? random.pick(targets) : undefined;
    const drops = about === 'answer' ? 1.5 : about === 'any' ? 4 : 28;
    const base: (readonly [number, string])[] = [
      [about === 'request' ? 20 : 26, '-j ACCEPT'],
      [8, '-j RETURN'],
      [3, ''],
    ];
    if (jump !== undefined) base.push([34, `-j ${jump}`], [5, `-g ${jump}`]);
    if (table === 'nat') {
      if (hook === 'POSTROUTING') base.push([10, '-j MASQUERADE'], [5, `-j SNAT --to-source ${random.pick(['10.0.9.1', '10.0.0.10', '10.0.9.1:5000-6000'])}`]);
      else base.push([0.7, `-j DNAT --to-destination ${random.pick([`${SERVICE}:80`, '10.0.0.1:80', '192.0.2.1'])}`], [0.7, '-j REDIRECT --to-ports 8080']);
    } else {
      base.push([drops, '-j DROP']);
    }
    if (table === 'filter' && hook === 'FORWARD') {
      base.push([drops / 5, '-j REJECT'], [drops / 10, '-j REJECT --reject-with tcp-reset'], [drops / 10, '-j REJECT --reject-with icmp-admin-prohibited']);
    }
    const marks = table === 'mangle' ? 22 : table === 'nat' ? 2 : 8;
    base.push([marks, `-j MARK ${this.markTarget()}`], [marks / 2, `-j CONNMARK ${this.connmarkTarget()}`]);
    if (table === 'raw') base.push([9, '-j CT --notrack'], [2, '-j NOTRACK']);
    if (table === 'mangle') base.push([1, '-j DSCP --set-dscp 0x08'], [1, '-j TOS --set-tos 0x10/0x3f']);
    if (table === 'mangle' && hook !== 'PREROUTING') base.push([1, '-j CLASSIFY --set-class 0001:0002'], [1, '-j TCPMSS --set-mss 1000']);
    return random.weighted(base);
  }

  private markTarget(): string {
    const { random } = this;
    const value = markValue(random);
    return random.weighted([
      [30, `--set-xmark ${value}/${markMask(random)}`],
      [20, `--set-mark ${value}`],
      [10, `--set-mark ${value}/${markMask(random)}`],
      [10, `--and-mark ${markMask(random)}`],
      [15, `--or-mark ${value}`],
      [15, `--xor-mark ${value}`],
    ]);
  }

  private connmarkTarget(): string {
    const { random } = this;
    const masks = random.chance(0.5) ? ` --nfmask ${markMask(random)} --ctmask ${markMask(random)}` : '';
    return random.weighted([
      [30, `--save-mark${masks}`],
      [30, `--restore-mark${masks}`],
      [5, `--save-mark --mask ${markMask(random)}`],
      [20, `--set-xmark ${markValue(random)}/${markMask(random)}`],
      [10, `--set-mark ${markValue(random)}`],
      [5, `--or-mark ${markValue(random)}`],
    ]);
  }
}

/** What the first packet of a connection is not, and later ones are. */
const LATER = /ESTABLISHED|! --syn|ACK|RST|REPLY|! --(ct)?state NEW|! --tcp-flags/;

const needsTcp = (words: readonly string[]): boolean => words.some(word => /-m tcp |-m multiport |tcp-reset|--to-ports|:80$|:5000-6000/.test(word));
