import { type Backend, type Family, type NftTable, type Ruleset, ruleText } from 'node-iptables';
import { type Desired, type DesiredRule, OWN_CHAIN } from './desired.ts';
import { COUNTINGS, type Counting, GUARD_TABLE, type GuardAct, OWNED_GUARD_TABLE, guardChains, guardScript, setNames } from './guard-table.ts';
import type { Observed } from './observed.ts';
import { isHidden, withNativeRules } from './native-rules.ts';
import { FOUND_CHAIN, bareRules, copiesOf, foundRecord, hasOwnCopy, ownRules, wroteBefore } from './own-rules.ts';
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
  | {
      readonly do: 'nft';
      readonly script: string;
      /** What is to run where that is refused. */
      readonly otherwise?: string;
      readonly because: readonly string[];
    };

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
 * What is missing from what was observed, as one restore a table; nothing when nothing is. In mode observe, what is ours and does
 * more than count: that goes. Rules of ours that are
 * there stay where they are, unless `reclaim` asks to take their position again (because the verdict needs it).
 */
export function plan(desired: Desired, observed: Observed, backend: Backend, reclaim = false): Step[] {
  if (desired.mode === 'observe') return [...withoutRules(observed), ...guardSteps(desired.guard, observed)];
  const steps: Step[] = [];
  for (const family of ['ipv4', 'ipv6'] as const) {
    const ruleset = rulesetsOf(observed).find((one) => one.family === family && one.backend === backend);
    if (!ruleset && couldNotLook(observed, family)) continue;
    // The order in which `own-rules` can tell what is ours, should we be stopped between the two.
    for (const table of desired.chains.length > 0 ? (['filter', 'mangle'] as const) : (['mangle', 'filter'] as const)) {
      // Blind, each pass would write the same once more.
      if (isHidden(ruleset, table)) continue;
      const lines = [
        ...foundLines(family, table, ruleset),
        ...chainLines(desired, family, table, ruleset),
        ...ruleLines(desired, family, table, ruleset, reclaim),
        ...staleLines(desired, table, ruleset),
      ];
      if (lines.length > 0) steps.push(restore(family, backend, table, lines));
    }
  }
  return [...steps, ...guardSteps(desired.guard, observed)];
}

/** Where nft cannot list tables, it cannot write one either: the other layers stand by themselves. */
function guardSteps(guard: Desired['guard'], observed: Observed): Step[] {
  if (guard === 'watched' || !observed.nft || observed.withoutNft !== undefined) return [];
  if (guard === 'none') return withoutGuard(observed, `table inet ${GUARD_TABLE} is not wanted`);
  const there = tableNamed(observed, GUARD_TABLE);
  // The simple form is there where the full one was refused: it would be refused again.
  if (there && COUNTINGS.some((counting) => guardStands(there, guard, counting))) return [];
  const because = there ? `table inet ${GUARD_TABLE} is not as it should be` : `table inet ${GUARD_TABLE} is missing`;
  return [{ do: 'nft', script: guardScript(guard, there !== undefined), otherwise: guardScript(guard, there !== undefined, 'simple'), because: [because] }];
}

const rulesetsOf = (observed: Observed): Ruleset[] => observed.rulesets.map((ruleset) => withNativeRules(ruleset, observed.nft));

const couldNotLook = (observed: Observed, family: Family): boolean => observed.failures.some((failure) => failure.family === family || failure.family === 'both');

/** Families whose rules could not be read: what stands there is not known. */
export const unreadFamilies = (observed: Observed, backend: Backend): Family[] =>
  (['ipv4', 'ipv6'] as const).filter((family) => couldNotLook(observed, family) && !observed.rulesets.some((ruleset) => ruleset.family === family && ruleset.backend === backend));

/** Nothing is written to what was not read, or each pass would write the same once more. */
export const unwrittenFamilies = (observed: Observed, backend: Backend): string[] =>
  unreadFamilies(observed, backend)
    .map((family) => `nothing was written for ${family}, because what is there could not be read`);

/** What keeps us from writing, or from finding what we wrote, in words. */
export const hiddenTables = (observed: Observed): string[] =>
  rulesetsOf(observed).flatMap((ruleset) =>
    [...ruleset.tables.keys()]
      .filter((table) => (table === 'filter' || table === 'mangle') && isHidden(ruleset, table))
      .map((table) => `table ${ruleset.family === 'ipv4' ? 'ip' : 'ip6'} ${table} holds rules that only nft can show, and nft did not: nothing was written to it`),
  );

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
function foundLines(family: Family, table: string, ruleset: Ruleset | undefined): Line[] {
  if (!ruleset || wroteBefore(ruleset)) return [];
  const found = bareRules(family, table).flatMap((rule) => Array.from({ length: copiesOf(rule, ruleset) }, () => rule));
  if (found.length === 0) return [];
  const because = `${table} holds documented rules already: recorded, so that remove leaves them`;
  return [{ text: `:${FOUND_CHAIN} - [0:0]`, because, declares: true }, ...found.map((rule) => ({ text: foundRecord(rule.text), because }))];
}

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
    const present = copiesOf(rule, ruleset) > 0;
    if (present && (!reclaim || standsOnTop(rule, wanted, ruleset))) return [];
    const body = rule.text.replace(/^-A \S+ /, '');
    const insert = { text: `-I ${rule.chain} 1 ${body}`, because: present ? `${rule.text} is there, but a packet passes it` : `${rule.text} is missing` };
    // Where the one that is there is somebody else's, ours goes in beside it.
    if (present && ruleset && hasOwnCopy(rule, ruleset)) return [{ text: `-D ${rule.chain} ${body}`, because: insert.because }, insert];
    if (present) return [insert];
    return [rule.position === 'first' ? insert : { text: rule.text, because: insert.because }];
  });
}

/** What is ours and of the other layout: it goes in the same restore that brings what takes its place. */
function staleLines(desired: Desired, table: string, ruleset: Ruleset | undefined): Line[] {
  const there = ruleset?.tables.get(table);
  if (!ruleset || !there) return [];
  const other = desired.chains.length > 0 ? 'DROP' : OWN_CHAIN;
  const because = 'is ours and of the other layout';
  const rules = ownRules(ruleset, there).filter(({ target }) => target === other);
  const chain = other === OWN_CHAIN && there.chains.has(OWN_CHAIN) ? chainRemoval(OWN_CHAIN) : [];
  return [...rules.map(({ text }) => ({ text: text.replace(/^-A/, '-D'), because: `${text} ${because}` })), ...chain];
}

const chainRemoval = (name: string): Line[] => ['-F', '-X'].map((verb) => ({ text: `${verb} ${name}`, because: `the chain ${name} is ours` }));

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

/** Counters and elements come and go, and who owns it is no matter. A rule more is one too many: it may accept. */
function guardStands(table: NftTable, act: GuardAct, counting: Counting): boolean {
  const wanted = guardChains(act, counting);
  const sets = setNames(counting);
  return (
    table.dormant === 'no' &&
    table.flowtables.size === 0 &&
    table.chains.size === wanted.length &&
    table.sets.size === sets.length &&
    sets.every((name) => table.sets.has(name)) &&
    wanted.every(({ name, hook, rules }) => {
      const chain = table.chains.get(name);
      const inPlace = hook ? chain?.type === 'filter' && chain.hook === hook.name && chain.priority === hook.priority && chain.policy === 'accept' : chain?.hook === undefined;
      return inPlace && chain?.rules.length === rules.length && chain.rules.every(({ text }, at) => plainly(text) === plainly(rules[at]!));
    })
  );
}

/** Read as text, a rule has counts, `counter packets 7 bytes 420 drop`; as JSON, numbers are decimal and a cgroup's level is left out (seen, 1.0.6). */
const plainly = (text: string): string =>
  text
    .replaceAll(/ packets \d+ bytes \d+/g, '')
    .replaceAll(/(?<= cgroupv2) level \d+/g, '')
    .replaceAll(/\b0x[0-9a-f]+\b/g, (hex) => String(Number(hex)));

const tableNamed = (observed: Observed, name: string): NftTable | undefined => observed.nft?.tables.find((one) => one.family === 'inet' && one.name === name);

/** Whether a daemon is at work: only its own process can take its table away, and it puts everything else back. */
export const isWatched = (observed: Observed): boolean => [GUARD_TABLE, OWNED_GUARD_TABLE].some((name) => tableNamed(observed, name)?.owned === 'yes');

const withoutGuard = (observed: Observed, because: string): Step[] =>
  [GUARD_TABLE, OWNED_GUARD_TABLE].filter((name) => tableNamed(observed, name)).map((name) => ({ do: 'nft', script: `delete table inet ${name}\n`, because: [because] }));

/**
 * Takes away exactly what is ours, from both backends: our chains and every jump to them, every rule that carries our
 * tag, the documented rules unless they were there before us (by value: they carry no tag), and our own table.
 */
export const removal = (observed: Observed): Step[] => [...withoutRules(observed), ...withoutGuard(observed, `table inet ${GUARD_TABLE} is ours`)];

function withoutRules(observed: Observed): Step[] {
  const steps: Step[] = [];
  for (const ruleset of rulesetsOf(observed)) {
    // mangle last: what is in it tells that the documented rules of filter are ours. And the record of others' after all.
    const tables = [...ruleset.tables.values()].sort((a, b) => Number(a.name === 'mangle') - Number(b.name === 'mangle'));
    const withoutRules = tables.map((table) => {
      const rules = ownRules(ruleset, table).map(({ text, because }): Line => ({ text: text.replace(/^-A/, '-D'), because }));
      return { table, lines: table.chains.has(OWN_CHAIN) ? [...rules, ...chainRemoval(OWN_CHAIN)] : rules };
    });
    const withoutRecords = tables.filter(({ chains }) => chains.has(FOUND_CHAIN)).map((table) => ({ table, lines: chainRemoval(FOUND_CHAIN) }));
    for (const { table, lines } of [...withoutRules, ...withoutRecords]) {
      if (lines.length > 0) steps.push(restore(ruleset.family, ruleset.backend, table.name, lines));
    }
  }
  return steps;
}
