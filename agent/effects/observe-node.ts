import { type Backend, type Family, type Firewall, IptablesError, type NftRuleset, type NftTable, type Ruleset, offPath, parseNftJson, parseNftText, parseSave } from 'node-iptables';
import type { Failure, Observed } from '../core/observed.ts';
import { nativeOnly } from '../core/native-tables.ts';
import type { Settings } from '../core/settings.ts';
import { type Links, readLinks } from './links.ts';
import { bypassesOfPods } from './pod-namespaces.ts';
import { hostBackend } from './host-backend.ts';
import { ipvsBypasses } from './ipvs.ts';
import { hasFamily } from './kernel.ts';
import { cniPattern } from './cni-config.ts';

export interface NodeSources {
  readonly firewall: Firewall;
  /** Runs a program that only prints; undefined when it is not installed. */
  readonly print: Print;
  /** /proc/net of the node: our own. */
  readonly procNet: string;
  readonly cniDirectory: string;
  /** Whether something will be written: then the backend that the node's `iptables` stands for is asked for too. */
  readonly forWriting: boolean;
}
export type Print = (program: string, args: readonly string[], stdin?: string) => Promise<string | undefined>;

/**
 * Looks at this node: both backends, both families, native nftables chains on the path, links and what may carry
 * packets past the rules. Never rejects: what could not be looked at is a failure in the answer.
 */
export async function observeNode(sources: NodeSources, settings: Settings): Promise<Observed> {
  const families: Family[] = ['ipv4', 'ipv6'];
  const present = families.filter((family) => hasFamily(family, sources.procNet));
  const failures: Failure[] = [];
  const assumed: string[] = [];
  const vpcCni = cniPattern(sources.cniDirectory);
  const [saved, { chains, withoutNft }, links, backend] = await Promise.all([
    Promise.all(present.flatMap((family) => (['nft', 'legacy'] as const).map((backend) => saveOf(sources.firewall, family, backend, failures, assumed)))),
    listChains(sources.firewall, failures, assumed),
    readLinks(sources.print, sources.procNet),
    sources.forWriting && settings.backend === 'auto' ? hostBackend(sources.firewall) : undefined,
  ]);
  const rulesets = saved.filter((ruleset) => ruleset !== undefined);
  forgiveMissing(failures, assumed, rulesets);
  const nft = chains && (await nativeTables(sources.firewall, chains, rulesets, failures));
  const patterns = [...(vpcCni ? [{ pattern: vpcCni, from: "the VPC CNI's configuration" }] : []), ...links.patterns];
  for (const { line, text } of nft?.unread ?? []) failures.push({ family: 'both', what: 'nft list', reason: 'CannotRead', message: `cannot read line ${line}: ${text.slice(0, 200)}` });
  const ways = [...(chains ? offPath(chains) : []), ...(nft ? offPath(nft) : [])];
  const podPatterns = [...settings.interfaces, ...settings.branchInterfaces, ...patterns.map(({ pattern }) => pattern)];
  const programs = await links.programsOn(podPatterns);
  const pods = await bypassesOfPods(sources.print, links);
  for (const family of families) if (!present.includes(family)) assumed.push(`this kernel has no ${family === 'ipv4' ? 'IPv4' : 'IPv6'}, so there is nothing of it to block`);
  return {
    rulesets,
    nft,
    ...(withoutNft === undefined ? {} : { withoutNft }),
    failures,
    bypasses: [
      ...ways.filter(({ redirects }) => redirects).map(({ place }) => place),
      ...programs.bypasses,
      ...links.bypasses,
      ...ipvsBypasses(sources.procNet),
      ...pods.bypasses,
    ].filter((text, at, all) => all.indexOf(text) === at),
    patterns,
    families: present,
    startMark: programs.mayMark || ways.some(({ marks }) => marks) ? undefined : 0,
    assumed: [...assumed, ...links.assumed, ...programs.assumed, ...pods.assumed],
    hostBackend: backend,
  };
}

async function saveOf(firewall: Firewall, family: Family, backend: Backend, failures: Failure[], assumed: string[]): Promise<Ruleset | undefined> {
  try {
    return parseSave(await firewall.save(family, backend), { family, backend });
  } catch (error) {
    const failure = failureOf(error, family, `${family === 'ipv4' ? 'iptables' : 'ip6tables'}-${backend}-save`);
    if (failure.kind === 'unsupported') assumed.push(`the kernel has no ${backend} tables for ${family}: ${failure.message}`);
    else failures.push(failure);
    return undefined;
  }
}

/**
 * A node with iptables-legacy alone (Amazon Linux 2) cannot be asked by iptables-nft-save. It need not: whatever is in
 * nf_tables is read with nft, and without nft counts as tables that may do anything. Only where neither iptables could be
 * asked is it a failure.
 */
function forgiveMissing(failures: Failure[], assumed: string[], rulesets: readonly Ruleset[]): void {
  for (const failure of [...failures]) {
    const legacy = rulesets.some(({ family, backend, tables }) => family === failure.family && backend === 'legacy' && tables.size > 0);
    if (failure.reason !== 'NotInstalled' || !/tables-nft-save$/.test(failure.what) || !legacy) continue;
    failures.splice(failures.indexOf(failure), 1);
    assumed.push(`what iptables-nft wrote was not asked of iptables: ${failure.message}`);
  }
}

/** A kernel without nf_tables has no native tables; where nft is not installed, nobody knows. Neither can be written to. */
async function listChains(firewall: Firewall, failures: Failure[], assumed: string[]): Promise<{ readonly chains: NftRuleset | undefined; readonly withoutNft?: string }> {
  try {
    return { chains: parseNftJson(await firewall.nftList(['list chains; list flowtables'])) };
  } catch (error) {
    const failure = failureOf(error, 'both', 'nft list');
    if (failure.kind === 'unsupported') return { chains: parseNftJson('{"nftables": []}'), withoutNft: 'this kernel has no nf_tables' };
    if (failure.kind !== 'not-installed') {
      failures.push(failure);
      return { chains: undefined };
    }
    assumed.push('native nftables tables were not read: nft is not installed; they cannot undo a drop, but may do anything else');
    return { chains: undefined, withoutNft: 'nft is not installed' };
  }
}

/** The rules of every native table that has a chain on some hook: not of those that iptables-nft already showed. */
async function nativeTables(firewall: Firewall, chains: NftRuleset, rulesets: readonly Ruleset[], failures: Failure[]): Promise<NftRuleset | undefined> {
  const wanted = nativeOnly(chains, rulesets).tables.filter((table) => [...table.chains.values()].some((chain) => chain.hook !== undefined));
  if (wanted.length === 0) return { tables: [], unread: chains.unread };
  // One call each: nft 1.0.6 answers "No such file or directory" to two `list table` in one (measured).
  const listed = await Promise.all(wanted.map((table) => listTable(firewall, table, failures)));
  const read = listed.filter((one) => one !== undefined);
  if (read.length < listed.length) return undefined;
  return nativeOnly({ tables: read.flatMap(({ tables }) => tables), unread: [...chains.unread, ...read.flatMap(({ unread }) => unread)] }, rulesets);
}

/**
 * One table, as JSON. An nft before 1.1.0 writes freed memory for a flag that stands alone: any word, so that nobody knows
 * whether the table is dormant, or bytes that are no text, where it breaks off with exit 0 (seen, 1.0.6). Its text is right:
 * the flags are taken from there, and the whole table where JSON broke off. Not told there either, nothing is proved by it.
 */
async function listTable(firewall: Firewall, { family, name }: Pick<NftTable, 'family' | 'name'>, failures: Failure[]): Promise<NftRuleset | undefined> {
  const read = await jsonOf(firewall, family, name, failures);
  if (!read || (read.unread.length === 0 && read.tables.every(({ dormant }) => dormant !== 'unknown'))) return read;
  const text = await textOf(firewall, family, name);
  const same = text?.tables.find((table) => table.family === family && table.name === name);
  if (!text || !same) return read;
  if (read.unread.length > 0) return text;
  return { ...read, tables: read.tables.map((table) => ({ ...table, dormant: same.dormant, owned: same.owned })) };
}

async function jsonOf(firewall: Firewall, family: string, name: string, failures: Failure[]): Promise<NftRuleset | undefined> {
  try {
    return parseNftJson(await firewall.nftList([`list table ${family} ${name}`]));
  } catch (error) {
    failures.push(failureOf(error, 'both', 'nft list'));
    return undefined;
  }
}

async function textOf(firewall: Firewall, family: string, name: string): Promise<NftRuleset | undefined> {
  try {
    return parseNftText(await firewall.nftText([`list table ${family} ${name}`]));
  } catch (error) {
    if (error instanceof IptablesError) return undefined;
    throw error;
  }
}

const REASON_OF: Readonly<Record<string, Failure['reason']>> = {
  'not-permitted': 'NotPermitted',
  'not-installed': 'NotInstalled',
  busy: 'Busy',
  'timed-out': 'TimedOut',
  unreadable: 'CannotRead',
};

function failureOf(error: unknown, family: Failure['family'], what: string): Failure & { kind: string } {
  const kind = error instanceof IptablesError ? error.kind : 'unexplained';
  const message = error instanceof Error ? error.message : String(error);
  return { family, what, reason: REASON_OF[kind] ?? 'CouldNotLook', message, kind };
}

export type { Links };
