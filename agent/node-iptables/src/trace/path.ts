import { CT_STATE, CT_STATUS, EVERY_PORT, type PacketClass } from '../packet/packet-class.ts';
import { EVERY_ADDRESS } from '../sets/address.ts';
import { matchBits, takeBits } from '../sets/bits.ts';
import type { BaseChain, Hook } from './program.ts';
import { type Effort, type Witnesses, walkBase } from './walk.ts';

/** The hooks a packet meets: forwarded by the node, or delivered on it. */
export type Way = 'forwarded' | 'delivered';
const HOOKS: Readonly<Record<Way, readonly Hook[]>> = {
  forwarded: ['prerouting', 'forward', 'postrouting'],
  delivered: ['prerouting', 'input'],
};

/** NF_IP_PRI_CONNTRACK: in prerouting, chains below this priority see packets that conntrack has not seen. */
const CONNTRACK_PRIORITY = -200;

/**
 * Where the kernel calls chains of type nat, whatever their own priority, which orders them among each other only
 * (nf_nat_ipv4_ops and nf_nat_register_fn, net/netfilter/nf_nat_proto.c and nf_nat_core.c).
 */
const NAT_PRIORITY: Readonly<Record<Hook, number>> = { prerouting: -100, input: 100, forward: 0, output: -100, postrouting: 100 };
const calledAt = (base: BaseChain): number => (base.type === 'nat' ? NAT_PRIORITY[base.hook] : base.priority);

/** Base chains in the order in which the kernel calls them. */
export type Path = readonly BaseChain[];

/**
 * Every order in which the kernel may call the chains: by hook and priority, which is all there is to know, but for
 * chains of equal priority. Those run the one registered last first (net/netfilter/core.c, nf_hook_entries_grow), and
 * no listing tells when that was. Where it cannot matter (none of them changes what another can see) there is one
 * order; otherwise there are several, and what is claimed must hold in each.
 */
export function pathsOf(bases: readonly BaseChain[], way: Way): Paths {
  let paths: BaseChain[][] = [[]];
  let complete = true;
  const settled: BaseChain[][] = [];
  for (const group of groupsOf(bases, way)) {
    const matters = group.length > 1 && group.some((base) => changesPackets(base, group));
    const orders = matters ? permutations(group) : [group];
    if (group.length > 1 && !matters) settled.push(group);
    paths = paths.flatMap((path) => orders.map((order) => [...path, ...order]));
    if (paths.length > MOST_PATHS || group.length > 4) complete = false;
    paths = paths.slice(0, MOST_PATHS);
  }
  return { paths, complete, turned: complete ? paths.flatMap((path) => turnsOf(path, settled)) : [] };
}

export interface Paths {
  readonly paths: readonly Path[];
  /** False when there are more orders than these. */
  readonly complete: boolean;
  /**
   * The same with chains whose order among each other does not matter turned round, so that each of them comes first once:
   * what a packet may enter in whichever order is entered in one of all these.
   */
  readonly turned: readonly Path[];
}

/** The order in which they are listed, where more than one is possible: the first of `pathsOf`, without looking at any rule. */
export const listedPath = (bases: readonly BaseChain[], way: Way): Path => groupsOf(bases, way).flat();

/** The chains up to the one, and those of its priority at its hook. */
export const pathThrough = (bases: readonly BaseChain[], way: Way, last: BaseChain | undefined): Path => {
  const groups = groupsOf(bases, way);
  return groups.slice(0, groups.findIndex((group) => group.some((base) => base === last)) + 1).flat();
};

/** Chains that the kernel calls one after another, and in each group those of one priority at one hook. */
const groupsOf = (bases: readonly BaseChain[], way: Way): BaseChain[][] =>
  HOOKS[way].flatMap((hook) => {
    const here = bases.filter((base) => base.hook === hook && base.type !== 'route').sort((a, b) => calledAt(a) - calledAt(b) || a.priority - b.priority);
    return [...Map.groupBy(here, calledAt).values()];
  });

function turnsOf(path: Path, settled: readonly (readonly BaseChain[])[]): Path[] {
  const most = Math.max(1, ...settled.map(({ length }) => length));
  return Array.from({ length: most - 1 }, (_, turn) => path.map((base) => {
    const group = settled.find((one) => one.includes(base));
    return group ? group[(group.indexOf(base) + turn + 1) % group.length]! : base;
  }));
}

/** More orders than this are not tried; two backends with one marking chain each at three hooks make eight. */
const MOST_PATHS = 24;

/** What is left of the classes after every chain of the path. */
export function walkPath(path: Path, entering: readonly PacketClass[], witnesses: Witnesses, effort: Effort): PacketClass[] {
  let packets = entering.map((packet): PacketClass => ({ ...packet, ctstatus: statusAtFirst(packet), tracked: false }));
  let tracked = false;
  for (const base of path) {
    if (!tracked && (base.hook !== 'prerouting' || base.priority >= CONNTRACK_PRIORITY)) {
      packets = packets.map((packet) => ({ ...packet, tracked: true }));
      tracked = true;
    }
    if (packets.length === 0) break;
    packets = WALK[base.hook](base, packets, witnesses, effort);
  }
  return tracked ? packets : packets.map((packet) => ({ ...packet, tracked: true }));
}

/** The first packet of a connection has not been translated when it comes in. */
const statusAtFirst = ({ ctstate, ctstatus }: PacketClass): PacketClass['ctstatus'] =>
  ctstate === CT_STATE.NEW && matchBits(ctstatus, 0, TRANSLATED) !== 'none' ? takeBits(ctstatus, 0, TRANSLATED) : ctstatus;
const TRANSLATED = CT_STATUS.SNAT | CT_STATUS.DNAT;

/** Before routing no rule knows the out-interface: its name is empty there. */
function beforeRouting(base: BaseChain, packets: readonly PacketClass[], witnesses: Witnesses, effort: Effort): PacketClass[] {
  const out: PacketClass[] = [];
  for (const packet of packets) {
    const unrouted = { ...packet, oif: NO_INTERFACE };
    for (const passed of pass(base, [unrouted], witnesses, effort)) out.push({ ...passed, oif: packet.oif });
  }
  return out;
}
const NO_INTERFACE: PacketClass['oif'] = { prefix: '', open: false, except: [] };

/** After nat rules see the new source of a packet, which is not known; the conversation is still the old source's. */
function afterRouting(base: BaseChain, packets: readonly PacketClass[], witnesses: Witnesses, effort: Effort): PacketClass[] {
  if (base.type === 'nat' || base.priority < NAT_PRIORITY.postrouting) return pass(base, packets, witnesses, effort);
  return packets.flatMap((packet) => {
    if (matchBits(packet.ctstatus, 0, CT_STATUS.SNAT) === 'all') return pass(base, [packet], witnesses, effort);
    const translated = { ...packet, src: EVERY_ADDRESS[packet.family], sport: EVERY_PORT };
    return pass(base, [translated], witnesses, effort).map((passed) => ({ ...passed, src: packet.src, sport: packet.sport }));
  });
}

const WALK: Readonly<Record<Hook, typeof pass>> = { prerouting: beforeRouting, input: pass, forward: pass, output: pass, postrouting: afterRouting };

/** nat chains see the first packet of a connection only; what they decide holds for the rest. */
function pass(base: BaseChain, packets: readonly PacketClass[], witnesses: Witnesses, effort: Effort): PacketClass[] {
  const around: PacketClass[] = [];
  const entering = base.type === 'nat' ? firstPackets(packets, around) : packets;
  if (entering.length === 0) return around;
  witnesses.meets?.(base);
  return [...walkBase(base, entering, witnesses, effort).passed, ...around];
}

/** The part of each class that begins a connection; the rest goes to `around`. */
function firstPackets(packets: readonly PacketClass[], around: PacketClass[]): PacketClass[] {
  return packets.flatMap((packet) => {
    const later = packet.ctstate & ~CT_STATE.NEW;
    if (later === packet.ctstate) {
      around.push(packet);
      return [];
    }
    if (later !== 0) around.push({ ...packet, ctstate: later });
    return [later === 0 ? packet : { ...packet, ctstate: CT_STATE.NEW }];
  });
}

/** Whether a packet may leave the chain other than it came: marked, untracked, translated, or not at all. Asks every rule of its table. */
function changesPackets(base: BaseChain, group: readonly BaseChain[]): boolean {
  // A new source is nothing to other nat chains, and something to chains of another type.
  const mixed = group.some(({ type }) => type !== base.type);
  // Sent elsewhere before it is dropped, or dropped before it is sent. iptables lets no rule of a nat table drop.
  const drops = group.some(({ type, place }) => type !== 'nat' || place.backend === 'nft-native');
  const seen = new Set<string>();
  const changes = (chain: { name: string; rules: BaseChain['rules'] } | undefined): boolean => {
    if (!chain || seen.has(chain.name)) return false;
    seen.add(chain.name);
    return chain.rules.some((rule) =>
      !rule.leavesAlone &&
      rule.programs.some((program) => {
        for (let step: typeof program | undefined = program; step; step = step.then) {
          const act = step.act;
          if (act.do === 'xmark' || act.do === 'copy-mark' || act.do === 'blur' || act.do === 'notrack' || act.do === 'unread') return true;
          if (drops && act.do === 'redirect') return true;
          if (mixed && act.do === 'accept' && act.translates) return true;
          if ((act.do === 'jump' || act.do === 'goto') && changes(base.chainNamed(act.chain))) return true;
        }
        return false;
      }),
    );
  };
  return changes(base);
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length > 4) return [[...items], [...items].reverse()];
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, at) => permutations(items.filter((_, other) => other !== at)).map((rest) => [item, ...rest]));
}
