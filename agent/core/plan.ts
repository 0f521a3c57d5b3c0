import { type Backend, type Family, type Ruleset, ruleText } from 'node-iptables';
import { IMDS_BLOCK } from './addresses.ts';
import { type Desired, type DesiredRule, GUARD_TABLE, OWN_CHAIN, OWN_TAG } from './desired.ts';
import type { Observed } from './observed.ts';
import type { Reason } from './reasons.ts';
import type { Report } from './report.ts';

/** Steps as data: what is printed is exactly what is sent. */
export type Step =
  | {
      readonly do: 'restore';
      readonly family: Family;
      readonly backend: Backend;
      readonly table: string;
      /** For `iptables-restore --noflush`. */
      readonly payload: string;
      readonly because: readonly string[];
    }
  | { readonly do: 'nft'; readonly script: string; readonly because: readonly string[] };

/**
 * The backend to write to: the one the node's kubelet and kube-proxy write to, told by the chains they leave in mangle
 * (kubernetes-sigs/iptables-wrappers, detect.go); before they started, the one the machine's `iptables` stands for.
 */
export function backendFor(observed: Observed, wanted: 'auto' | Backend): Backend {
  if (wanted !== 'auto') return wanted;
  const marked = (backend: Backend): boolean =>
    observed.rulesets.some(
      (ruleset) => ruleset.backend === backend && ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY'].some((name) => ruleset.tables.get('mangle')?.chains.has(name)),
    );
  if (marked('nft')) return 'nft';
  if (marked('legacy')) return 'legacy';
  return observed.hostBackend ?? 'nft';
}

/**
 * What is missing from what was observed, as one restore a table; nothing when nothing is. Rules of ours that are
 * there stay where they are, unless `reclaim` asks to take their position again (because the verdict needs it).
 *
 * @param documented the rules of the documented layout: those of them that are there before we write anything are not
 *   ours, and are put on record so that `remove` leaves them
 */
export function plan(desired: Desired, observed: Observed, backend: Backend, documented: Desired, reclaim = false): Step[] {
  const steps: Step[] = [];
  for (const family of ['ipv4', 'ipv6'] as const) {
    const ruleset = observed.rulesets.find((one) => one.family === family && one.backend === backend);
    for (const table of ['filter', 'mangle'] as const) {
      const lines = [...foundLines(family, table, ruleset, documented), ...chainLines(desired, family, table, ruleset), ...ruleLines(desired, family, table, ruleset, reclaim)];
      if (lines.length > 0) steps.push(restore(family, backend, table, lines));
    }
  }
  if (desired.guard !== undefined && !guardStands(observed, desired.guard)) {
    steps.push({ do: 'nft', script: desired.guard, because: [`table inet ${GUARD_TABLE} is not as it should be`] });
  }
  return steps;
}

/**
 * Whether taking our positions again may help: rules above ours let a packet through or hide what happens. It cannot
 * help against what does not meet the rules, or could not be looked at, or is answered by somebody else.
 */
export const needsReclaim = (report: Report): boolean => report.targets.some(({ reason }) => RECLAIMED.has(reason));
const RECLAIMED: ReadonlySet<Reason> = new Set(['PacketPasses', 'LiveConnectionsPass', 'CannotRead', 'DependsOnState', 'TooLarge', 'OrderUnknown', 'OnlyUnlikelyPass', 'OnlyLaterPacketsDropped', 'ReachedByDetour']);

interface Line {
  readonly text: string;
  readonly because: string;
  /** Chain lines come before rules in a restore. */
  readonly declares?: true;
}

/**
 * A documented rule carries no tag, so ours looks like one that an operator's user data wrote. What is there when we
 * come for the first time (nothing carries our tag yet) is recorded in the kernel beside our rules, in a chain that
 * nothing jumps to: no memory of ours is needed, and the record goes when the rules go.
 */
function foundLines(family: Family, table: string, ruleset: Ruleset | undefined, documented: Desired): Line[] {
  if (!ruleset || wroteBefore(ruleset)) return [];
  const found = documented.rules.filter((rule) => rule.family === family && rule.table === table && !rule.text.includes(OWN_TAG) && isPresent(rule, ruleset));
  if (found.length === 0) return [];
  const because = `${table} holds documented rules already: recorded, so that remove leaves them`;
  return [{ text: `:${FOUND_CHAIN} - [0:0]`, because, declares: true }, ...found.map((rule) => ({ text: foundRecord(rule.text), because }))];
}

export const FOUND_CHAIN = `${OWN_CHAIN}-FOUND`;
/** `-A FORWARD -d … -j DROP` as a rule that matches and does nothing: `-A IMDS-GUARD-FOUND -d …`. */
const foundRecord = (text: string): string => text.replace(/^-A (\S+) (.*) -j DROP$/, `-A ${FOUND_CHAIN} $2 -m comment --comment $1`);

const wroteBefore = (ruleset: Ruleset): boolean =>
  [...ruleset.tables.values()].some(
    ({ chains }) => chains.has(OWN_CHAIN) || [...chains.values()].some((chain) => chain.rules.some((rule) => rule.words.includes(OWN_TAG))),
  );

function chainLines(desired: Desired, family: Family, table: string, ruleset: Ruleset | undefined): Line[] {
  return desired.chains
    .filter((chain) => chain.family === family && chain.table === table)
    .flatMap((chain): Line[] => {
      const there = ruleset?.tables.get(table)?.chains.get(chain.name);
      const texts = there?.rules.map((rule) => ruleText(rule, family));
      if (texts && texts.length === chain.rules.length && texts.every((text, at) => text === chain.rules[at])) return [];
      const because = there ? `${table} ${chain.name} holds other rules than ours` : `${table} ${chain.name} is missing`;
      return [{ text: `:${chain.name} - [0:0]`, because, declares: true }, ...chain.rules.map((text) => ({ text, because }))];
    });
}

function ruleLines(desired: Desired, family: Family, table: string, ruleset: Ruleset | undefined, reclaim: boolean): Line[] {
  const wanted = desired.rules.filter((rule) => rule.family === family && rule.table === table);
  // Each 'first' goes in above the one before it, so the last written ends on top: written in reverse, they end in order.
  const ordered = [...wanted.filter((rule) => rule.position === 'last'), ...wanted.filter((rule) => rule.position === 'first').reverse()];
  return ordered.flatMap((rule): Line[] => {
    const present = isPresent(rule, ruleset);
    if (present && (!reclaim || standsOnTop(rule, wanted, ruleset))) return [];
    const body = rule.text.replace(/^-A \S+ /, '');
    const insert = { text: `-I ${rule.chain} 1 ${body}`, because: present ? `${rule.text} is there, but a packet passes it` : `${rule.text} is missing` };
    if (present) return [{ text: `-D ${rule.chain} ${body}`, because: insert.because }, insert];
    return [rule.position === 'first' ? insert : { text: rule.text, because: insert.because }];
  });
}

const isPresent = (rule: DesiredRule, ruleset: Ruleset | undefined): boolean =>
  ruleset?.tables.get(rule.table)?.chains.get(rule.chain)?.rules.some((one) => ruleText(one, rule.family) === rule.text) ?? false;

/** Whether only rules of ours stand above it: then there is no better place. */
function standsOnTop(rule: DesiredRule, ours: readonly DesiredRule[], ruleset: Ruleset | undefined): boolean {
  const texts = (ruleset?.tables.get(rule.table)?.chains.get(rule.chain)?.rules ?? []).slice(0, ours.length).map((one) => ruleText(one, rule.family));
  const at = texts.indexOf(rule.text);
  return at >= 0 && texts.slice(0, at).every((text) => ours.some((one) => one.text === text));
}

const restore = (family: Family, backend: Backend, table: string, lines: readonly Line[]): Step => ({
  do: 'restore',
  family,
  backend,
  table,
  payload: [`*${table}`, ...lines.filter((line) => line.declares).map(({ text }) => text), ...lines.filter((line) => !line.declares).map(({ text }) => text), 'COMMIT', ''].join('\n'),
  because: [...new Set(lines.map(({ because }) => because))],
});

/** Whether our own table holds just the rules we would write: compared by what each rule does, not by handles or counters. */
function guardStands(observed: Observed, script: string): boolean {
  const table = observed.nft?.tables.find((one) => one.family === 'inet' && one.name === GUARD_TABLE);
  const wanted = script.split('\n').filter((line) => line.includes('daddr')).length;
  const rules = [...(table?.chains.values() ?? [])].flatMap((chain) => chain.rules);
  return rules.length === wanted && rules.every((rule) => /reject|drop/.test(rule.text));
}

/**
 * Takes away exactly what is ours, from both backends: our chains and every jump to them, every rule that carries our
 * tag, the documented rules unless they were there before us (by value: they carry no tag), and our own table.
 */
export function removal(observed: Observed, documented: Desired): Step[] {
  const steps: Step[] = [];
  for (const ruleset of observed.rulesets) {
    for (const table of ruleset.tables.values()) {
      const lines: Line[] = [];
      const found = new Set(table.chains.get(FOUND_CHAIN)?.rules.map((rule) => ruleText(rule, ruleset.family)));
      for (const chain of table.chains.values()) {
        if (chain.name === OWN_CHAIN || chain.name === FOUND_CHAIN) continue;
        for (const rule of chain.rules) {
          const text = ruleText(rule, ruleset.family);
          const why = found.has(foundRecord(text)) || !wroteBefore(ruleset) ? undefined : whyOurs(text, ruleset.family, table.name, documented);
          if (why) lines.push({ text: text.replace(/^-A/, '-D'), because: why });
        }
      }
      for (const name of [OWN_CHAIN, FOUND_CHAIN].filter((one) => table.chains.has(one))) {
        lines.push({ text: `-F ${name}`, because: `the chain ${name} is ours` }, { text: `-X ${name}`, because: `the chain ${name} is ours` });
      }
      if (lines.length > 0) steps.push(restore(ruleset.family, ruleset.backend, table.name, lines));
    }
  }
  if (observed.nft?.tables.some((table) => table.family === 'inet' && table.name === GUARD_TABLE)) {
    steps.push({ do: 'nft', script: `delete table inet ${GUARD_TABLE}\n`, because: [`table inet ${GUARD_TABLE} is ours`] });
  }
  return steps;
}

function whyOurs(text: string, family: Family, table: string, documented: Desired): string | undefined {
  if (new RegExp(` -m comment --comment ${OWN_TAG} -[jg] (DROP|${OWN_CHAIN})$`).test(text) && text.includes(` -d ${IMDS_BLOCK[family]} `)) return 'carries our tag';
  if (documented.rules.some((rule) => rule.family === family && rule.table === table && rule.text === text)) return 'is a documented rule, as we write it';
  return text.endsWith(` -j ${OWN_CHAIN}`) ? `jumps to our chain ${OWN_CHAIN}` : undefined;
}
