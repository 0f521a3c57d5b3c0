import { KERNEL_CHAINS, type Chain, type Rule, type Ruleset, TABLE_PRIORITY, type Table, isKernelChain } from '../model.ts';
import { ALWAYS } from '../packet/test.ts';
import { readRule, ruleText } from '../save/read-rule.ts';
import type { Action, BaseChain, Place, Program, TracedChain, TracedRule } from './program.ts';

/**
 * The chains of an iptables ruleset that the kernel calls, ready to be walked. Rules are read when a packet first
 * comes by, so a table of fifty thousand rules costs only what its path costs.
 *
 * @param knownElsewhere tables whose native rules another listing shows: an 'incompatible' one of these is left out.
 */
export function baseChainsOf(ruleset: Ruleset, knownElsewhere: ReadonlySet<string> = new Set()): BaseChain[] {
  const bases: BaseChain[] = [];
  for (const table of ruleset.tables.values()) {
    const priorities = TABLE_PRIORITY[table.name];
    if (!priorities || (table.state === 'incompatible' && knownElsewhere.has(table.name))) continue;
    const place: Place = { backend: ruleset.backend, family: ruleset.family === 'ipv4' ? 'ip' : 'ip6', table: table.name };
    const chains = new TableChains(table, place, ruleset);
    for (const [name, priority] of Object.entries(priorities)) {
      if (!isKernelChain(name)) continue;
      const chain = table.chains.get(name);
      if (!chain && table.state === 'read' && table.unread.length === 0) continue;
      bases.push({
        ...(chains.named(name) ?? { name, place, rules: chains.gaps(name) }),
        hook: KERNEL_CHAINS[name],
        priority,
        type: table.name === 'nat' ? 'nat' : 'filter',
        policy: policyRule(place, name, chain, table),
        chainNamed: (wanted) => chains.named(wanted),
      });
    }
  }
  return bases;
}

class TableChains {
  private readonly traced = new Map<string, TracedChain>();
  private readonly table: Table;
  private readonly place: Place;
  private readonly ruleset: Ruleset;
  constructor(table: Table, place: Place, ruleset: Ruleset) {
    this.table = table;
    this.place = place;
    this.ruleset = ruleset;
  }

  named(name: string): TracedChain | undefined {
    const known = this.traced.get(name);
    if (known) return known;
    const chain = this.table.chains.get(name);
    if (!chain) return undefined;
    const rules = chain.rules.map((rule, at) => new LazyRule(rule, at + 1, this.place, this.ruleset.family));
    const traced: TracedChain = { name, place: this.place, rules: [...this.gaps(name), ...rules] };
    this.traced.set(name, traced);
    return traced;
  }

  /** A line that cannot be read may be any rule anywhere in its table, so it stands at the head of every chain. */
  gaps(chain: string): TracedRule[] {
    const { unread, state } = this.table;
    if (state === 'incompatible') return [unreadRule(this.place, chain, 'holds nftables rules that iptables-save cannot show')];
    return unread.map((line) => unreadRule(this.place, chain, `cannot read line ${line.line}: ${line.text}`));
  }
}

class LazyRule implements TracedRule {
  readonly place: Place;
  readonly chain: string;
  readonly number: number;
  private readonly rule: Rule;
  private readonly family: Ruleset['family'];
  private read: readonly Program[] | undefined;
  constructor(rule: Rule, number: number, place: Place, family: Ruleset['family']) {
    this.rule = rule;
    this.number = number;
    this.place = place;
    this.chain = rule.chain;
    this.family = family;
  }
  get text(): string {
    return ruleText(this.rule, this.family);
  }
  get programs(): readonly Program[] {
    if (!this.read) {
      const { test, action } = readRule(this.rule, this.family);
      this.read = [{ test, act: action }];
    }
    return this.read;
  }
}

const policyRule = (place: Place, name: string, chain: Chain | undefined, table: Table): TracedRule => {
  const policy = table.state === 'incompatible' ? undefined : chain?.policy;
  return {
    place,
    chain: name,
    number: 0,
    text: `-P ${name} ${policy ?? '(not given)'}`,
    programs: [{ test: ALWAYS, act: policyAction(name, policy) }],
  };
};

function policyAction(name: string, policy: string | undefined): Action {
  if (policy === 'ACCEPT') return { do: 'accept' };
  if (policy === 'DROP') return { do: 'drop', how: 'DROP' };
  return { do: 'unread', why: policy === undefined ? `the policy of ${name} was not given` : `cannot read the policy ${policy}` };
}

const unreadRule = (place: Place, chain: string, why: string): TracedRule => ({
  place,
  chain,
  number: 0,
  text: `(${why})`,
  programs: [{ test: ALWAYS, act: { do: 'unread', why } }],
});
