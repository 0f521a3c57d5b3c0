import type { Test } from '../packet/test.ts';
import type { Program } from '../trace/program.ts';
import type { NftChain, NftRuleset, NftTable } from './model.ts';
import { readNftRule } from './read-rule.ts';
import type { Surroundings } from './surroundings.ts';

/** Something in the ruleset that may carry packets past the hooks where firewalls stand. */
export interface OffPath {
  readonly what: 'flowtable' | 'netdev-chain' | 'ingress-chain';
  /** `flowtable inet calico ft (devices ens5, eni1)` */
  readonly place: string;
  readonly devices: readonly string[];
  /** False only where every rule, and every chain they jump to, is read and sends no packet elsewhere. */
  readonly redirects: boolean;
  /** Whether packets may come out of it with a mark that no hook gave them. */
  readonly marks: boolean;
}

/** Every flowtable, every base chain of a netdev table, every ingress chain of an inet table. */
export function offPath(ruleset: NftRuleset): OffPath[] {
  return ruleset.tables.flatMap((table) => [
    ...[...table.flowtables.values()].map(({ name, devices }): OffPath => ({
      what: 'flowtable',
      place: `flowtable ${table.family} ${table.name} ${name}${devicesText(devices)}`,
      devices,
      redirects: true,
      marks: false,
    })),
    ...[...table.chains.values()].flatMap((chain) => earlyChain(table, chain)),
  ]);
}

function earlyChain(table: NftTable, chain: NftChain): OffPath[] {
  if (chain.hook === undefined) return [];
  const what = table.family === 'netdev' ? 'netdev-chain' : chain.hook === 'ingress' ? 'ingress-chain' : undefined;
  if (what === undefined) return [];
  return [{
    what,
    place: `chain ${table.family} ${table.name} ${chain.name} hook ${chain.hook}${devicesText(chain.devices)}`,
    devices: chain.devices,
    redirects: anyRule(table, chain, redirects),
    marks: anyRule(table, chain, marks),
  }];
}

const devicesText = (devices: readonly string[]): string =>
  devices.length === 0 ? ' (devices not told)' : ` (device${devices.length === 1 ? '' : 's'} ${devices.join(', ')})`;

type Judge = (program: Program) => boolean;
const redirects: Judge = ({ act, test }) => isUnread(test) || act.do === 'unread' || act.do === 'redirect';
const marks: Judge = ({ act, test }) =>
  isUnread(test) || act.do === 'unread' || ((act.do === 'xmark' || act.do === 'blur') && act.on === 'mark') || (act.do === 'copy-mark' && act.to === 'mark');

/** Whether a rule of the chain, or of a chain that it goes to, is so for packets of either family. */
const anyRule = (table: NftTable, chain: NftChain, judge: Judge): boolean =>
  (['ipv4', 'ipv6'] as const).some((family) => holds({ table, family, conntrack: 'unordered' }, chain, judge, new Set()));

function holds(around: Surroundings, chain: NftChain, judge: Judge, seen: Set<string>): boolean {
  if (seen.has(chain.name)) return false;
  seen.add(chain.name);
  const ofProgram = (program: Program): boolean => {
    if (judge(program) || (program.then !== undefined && ofProgram(program.then))) return true;
    if (program.act.do !== 'jump' && program.act.do !== 'goto') return false;
    const target = around.table.chains.get(program.act.chain);
    return !target || holds(around, target, judge, seen);
  };
  return chain.rules.some((rule) => readNftRule(rule, around).some(ofProgram));
}

function isUnread(test: Test): boolean {
  switch (test.is) {
    case 'maybe':
      return test.kind === 'unread';
    case 'not':
      return isUnread(test.test);
    case 'all':
    case 'any':
      return test.tests.some(isUnread);
    default:
      return false;
  }
}
