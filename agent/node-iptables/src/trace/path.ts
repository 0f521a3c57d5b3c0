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
  for (const hook of HOOKS[way]) {
    const here = bases.filter((base) => base.hook === hook && base.type !== 'route').sort((a, b) => calledAt(a) - calledAt(b) || a.priority - b.priority);
    for (let at = 0; at < here.length; ) {
      const end = here.findIndex((base, later) => later > at && calledAt(base) !== calledAt(here[at]!));
      const group = here.slice(at, end < 0 ? here.length : end);
      const orders = group.length > 1 && group.some((base) => changesPackets(base, group)) ? permutations(group) : [group];
      paths = paths.flatMap((path) => orders.map((order) => [...path, ...order]));
      if (paths.length > MOST_PATHS || group.length > 4) complete = false;
      paths = paths.slice(0, MOST_PATHS);
      at += group.length;
    }
  }
  return { paths, complete };
}

export interface Paths {
  readonly paths: readonly Path[];
  /** False when there are more orders than these. */
  readonly complete: boolean;
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

/** Whether a packet may leave the chain other than it came: marked, untracked, translated. Asks every rule of its table. */
function changesPackets(base: BaseChain, group: readonly BaseChain[]): boolean {
  // A new source is nothing to other nat chains, and something to chains of another type.
  const mixed = group.some(({ type }) => type !== base.type);
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
