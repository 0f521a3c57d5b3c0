import type { Family } from '../sets/address.ts';
import { ALWAYS } from '../packet/test.ts';
import type { BaseChain, Hook, Place, Program, TracedChain, TracedRule } from '../trace/program.ts';
import type { NftChain, NftRule, NftRuleset, NftTable } from './model.ts';
import { readNftRule } from './read-rule.ts';
import type { Surroundings } from './surroundings.ts';

const HOOKS: readonly Hook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'];
const TYPES: readonly BaseChain['type'][] = ['filter', 'nat', 'route'];
/** NF_IP_PRI_CONNTRACK (uapi/linux/netfilter_ipv4.h), at prerouting and output. */
const CONNTRACK_PRIORITY = -200;

/**
 * The chains that the kernel calls for packets of a family, of the tables that `keep` lets through, in the order of
 * the listing. Rules are read when first walked. `netdev` chains and `inet` ingress chains are not among them: they
 * see packets before any hook (see `offPath`).
 */
export function nftBaseChains(ruleset: NftRuleset, family: Family, keep: (table: NftTable) => boolean): BaseChain[] {
  const own = family === 'ipv4' ? 'ip' : 'ip6';
  return ruleset.tables
    .filter((table) => (table.family === own || table.family === 'inet') && table.dormant !== 'yes' && keep(table))
    .flatMap((table) => [...table.chains.values()].flatMap((chain) => baseChain(table, chain, family)));
}

function baseChain(table: NftTable, chain: NftChain, family: Family): BaseChain[] {
  const hook = HOOKS.find((known) => known === chain.hook);
  if (hook === undefined) return [];
  const place: Place = { backend: 'nft-native', family: table.family, table: table.name };
  // nft always tells a priority; where a text does not, nothing that depends on the order is decided.
  const priority = chain.priority ?? CONNTRACK_PRIORITY;
  const unordered = (hook === 'prerouting' || hook === 'output') && priority === CONNTRACK_PRIORITY;
  const traced = new Map<string, TracedChain>();
  const around: Surroundings = { table, family, conntrack: unordered ? 'unordered' : 'ordered' };
  const chainNamed = (name: string): TracedChain | undefined => {
    const inner = table.chains.get(name);
    if (!inner) return undefined;
    let known = traced.get(name);
    if (!known) traced.set(name, (known = tracedChain(inner, place, around)));
    return known;
  };
  const itself = tracedChain(chain, place, around);
  return [{
    ...itself,
    rules: table.dormant === 'unknown' ? [perhapsAsleep(chain, place), ...itself.rules] : itself.rules,
    hook,
    priority,
    type: TYPES.find((known) => known === chain.type) ?? 'filter',
    policy: policyOf(chain, place),
    chainNamed,
  }];
}

const tracedChain = (chain: NftChain, place: Place, around: Surroundings): TracedChain => ({
  name: chain.name,
  place,
  rules: chain.rules.map((rule, at) => tracedRule(rule, at + 1, place, around)),
});

function tracedRule(rule: NftRule, number: number, place: Place, around: Surroundings): TracedRule {
  let read: readonly Program[] | undefined;
  return {
    place,
    chain: rule.chain,
    number,
    get text() { return rule.text; },
    get programs() { return (read ??= readNftRule(rule, around)); },
  };
}

/** Whether the chain is called at all is not known: every packet may go round it. */
const perhapsAsleep = (chain: NftChain, place: Place): TracedRule => ({
  place,
  chain: chain.name,
  number: 0,
  text: 'a table whose flags cannot be read',
  programs: [{ test: { is: 'maybe', kind: 'unread', why: `cannot read whether the table ${place.table} is dormant` }, act: { do: 'accept' } }],
});

/** `policy accept` is what nft gives a chain that says nothing (nft(8), CHAINS). */
function policyOf(chain: NftChain, place: Place): TracedRule {
  const policy = chain.policy ?? 'accept';
  const act: Program['act'] =
    policy === 'accept' ? { do: 'accept' } : policy === 'drop' ? { do: 'drop', how: 'policy drop' } : { do: 'unread', why: `cannot read \`policy ${policy}\`` };
  return { place, chain: chain.name, number: 0, text: `policy ${policy}`, programs: [{ test: ALWAYS, act }] };
}
