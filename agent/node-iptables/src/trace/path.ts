import { CT_STATE, type PacketClass } from '../packet/packet-class.ts';
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
    const here = bases.filter((base) => base.hook === hook && base.type !== 'route').sort((a, b) => a.priority - b.priority);
    for (let at = 0; at < here.length; ) {
      const end = here.findIndex((base, later) => later > at && base.priority !== here[at]!.priority);
      const group = here.slice(at, end < 0 ? here.length : end);
      const orders = group.length > 1 && group.some(changesPackets) ? permutations(group) : [group];
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
  let packets = entering.map((packet) => ({ ...packet, tracked: false }));
  let tracked = false;
  for (const base of path) {
    if (!tracked && (base.hook !== 'prerouting' || base.priority >= CONNTRACK_PRIORITY)) {
      packets = packets.map((packet) => ({ ...packet, tracked: true }));
      tracked = true;
    }
    if (packets.length === 0) break;
    packets = base.hook === 'prerouting' ? beforeRouting(base, packets, witnesses, effort) : pass(base, packets, witnesses, effort);
  }
  return tracked ? packets : packets.map((packet) => ({ ...packet, tracked: true }));
}

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

/** nat chains see the first packet of a connection only; what they decide holds for the rest. */
function pass(base: BaseChain, packets: readonly PacketClass[], witnesses: Witnesses, effort: Effort): PacketClass[] {
  const entering = base.type === 'nat' ? packets.filter((packet) => (packet.ctstate & CT_STATE.NEW) !== 0) : packets;
  const around = base.type === 'nat' ? packets.filter((packet) => (packet.ctstate & CT_STATE.NEW) === 0) : [];
  if (entering.length > 0) witnesses.meets?.(base);
  return entering.length === 0 ? [...around] : [...walkBase(base, entering, witnesses, effort).passed, ...around];
}

/** Whether a packet may leave the chain other than it came: marked, untracked, translated. Asks every rule of its table. */
function changesPackets(base: BaseChain): boolean {
  const seen = new Set<string>();
  const changes = (chain: { name: string; rules: BaseChain['rules'] } | undefined): boolean => {
    if (!chain || seen.has(chain.name)) return false;
    seen.add(chain.name);
    return chain.rules.some((rule) =>
      rule.programs.some((program) => {
        for (let step: typeof program | undefined = program; step; step = step.then) {
          const act = step.act;
          if (act.do === 'xmark' || act.do === 'copy-mark' || act.do === 'blur' || act.do === 'notrack' || act.do === 'unread') return true;
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
