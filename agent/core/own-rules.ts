import { type Family, type Rule, type Ruleset, type Table, ruleText } from 'node-iptables';
import { IMDS_BLOCK } from './addresses.ts';
import { type DesiredRule, OWN_CHAIN, OWN_TAG, desired } from './desired.ts';
import { DEFAULT_SETTINGS } from './settings.ts';

/** A rule of ours in a chain that we share with others. */
export interface OwnRule {
  /** In canonical form, `-A FORWARD …`. */
  readonly text: string;
  readonly because: string;
  readonly target: 'DROP' | typeof OWN_CHAIN;
}

/**
 * Every rule of ours in a table's shared chains, told from the rules alone, for we have no memory. A rule with our tag is
 * ours. A documented rule carries none: it is ours when we have written this backend's documented layout and it is not
 * on record as found; of several copies one is ours, for we never write a second.
 */
export function ownRules(ruleset: Ruleset, table: Table): OwnRule[] {
  if (!wroteBefore(ruleset)) return [];
  const bare = wroteDocumented(ruleset) ? bareRules(ruleset.family, table.name) : [];
  const counted = new Set<string>();
  return [...table.chains.values()].flatMap((chain) =>
    chain.name === OWN_CHAIN || chain.name === FOUND_CHAIN
      ? []
      : chain.rules.filter(mayBeOurs).flatMap((rule): OwnRule[] => {
          const text = ruleText(rule, ruleset.family);
          const target = text.endsWith(' -j DROP') ? 'DROP' : OWN_CHAIN;
          if (carriesTag(text, ruleset.family)) return [{ text, because: 'carries our tag', target }];
          if (JUMPS.test(text)) return [{ text, because: `jumps to our chain ${OWN_CHAIN}`, target }];
          const same = bare.find((one) => one.text === text);
          if (!same || counted.has(text) || !hasOwnCopy(same, ruleset)) return [];
          counted.add(text);
          return [{ text, because: 'is a documented rule, as we write it', target }];
        }),
  );
}

/** A glance at the line before it is read: in a large table hardly any rule names IMDS or us. */
const mayBeOurs = ({ uncut }: Rule): boolean =>
  uncut === undefined || uncut.includes(OWN_TAG) || uncut.includes(OWN_CHAIN) || Object.values(IMDS_BLOCK).some((block) => uncut.includes(block));

export const wroteBefore = (ruleset: Ruleset): boolean =>
  [...ruleset.tables.values()].some(
    ({ chains }) => chains.has(OWN_CHAIN) || [...chains.values()].some((chain) => chain.rules.some((rule) => mayBeOurs(rule) && rule.words.includes(OWN_TAG))),
  );

/**
 * In the documented layout a tagged rule of mangle drops by itself, where the chain layout jumps. plan() writes mangle
 * before filter in the one and after it in the other, so that a pass that was cut short leaves no rule unclaimed.
 */
const wroteDocumented = (ruleset: Ruleset): boolean =>
  [...(ruleset.tables.get('mangle')?.chains.values() ?? [])].some(
    ({ name, rules }) => name !== OWN_CHAIN && rules.some((rule) => mayBeOurs(rule) && rule.words.includes(OWN_TAG) && rule.words.at(-1) === 'DROP'),
  );

/** How often a rule is there, whoever wrote it. */
export const copiesOf = (rule: DesiredRule, ruleset: Ruleset | undefined): number =>
  ruleset?.tables.get(rule.table)?.chains.get(rule.chain)?.rules.filter((one) => mayBeOurs(one) && ruleText(one, rule.family) === rule.text).length ?? 0;

/** Whether one of the copies is not on record as somebody else's. */
export const hasOwnCopy = (rule: DesiredRule, ruleset: Ruleset): boolean => copiesOf(rule, ruleset) > foundCopiesOf(rule, ruleset);

function foundCopiesOf(rule: DesiredRule, ruleset: Ruleset): number {
  const record = foundRecord(rule.text);
  return ruleset.tables.get(rule.table)?.chains.get(FOUND_CHAIN)?.rules.filter((one) => ruleText(one, rule.family) === record).length ?? 0;
}

export const FOUND_CHAIN = `${OWN_CHAIN}-FOUND`;
/** `-A FORWARD -d … -j DROP` as a rule that matches and does nothing: `-A IMDS-GUARD-FOUND -d …`. */
export const foundRecord = (text: string): string => text.replace(/^-A (\S+) (.*) -j DROP$/, `-A ${FOUND_CHAIN} $2 -m comment --comment $1`);

/** The rules that we write without our tag, whatever the settings are by now: just the documented ones. */
export const bareRules = (family: Family, table: string): readonly DesiredRule[] => BARE.filter((rule) => rule.family === family && rule.table === table);
const BARE = desired(DEFAULT_SETTINGS, [], ['ipv4', 'ipv6']).rules.filter(({ text }) => !text.includes(` --comment ${OWN_TAG} `));

const carriesTag = (text: string, family: Family): boolean => TAGGED.test(text) && text.includes(` -d ${IMDS_BLOCK[family]} `);
const TAGGED = new RegExp(` -m comment --comment ${OWN_TAG} -[jg] (DROP|${OWN_CHAIN})$`);
const JUMPS = new RegExp(` -[jg] ${OWN_CHAIN}$`);
