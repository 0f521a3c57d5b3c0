import { type ErrorKind, IptablesError, type Ran } from '../errors.ts';
import type { Firewall, SaveOptions, Version } from '../firewall.ts';
import { type Backend, type Ruleset, TABLE_PRIORITY, type Table } from '../model.ts';
import { applyRestore, untouchedTable } from '../save/apply-restore.ts';
import { parseSave } from '../save/parse-save.ts';
import { renderTable } from '../save/render.ts';
import type { Family } from '../sets/address.ts';
import { parseVersion, programName } from '../versions.ts';
import { parseScript } from './nft-script.ts';
import { type NftState, applyStatements, listJson, listText, tableText as nativeTableText } from './nft-tables.ts';

export interface FakeOptions {
  /** What the plain name `iptables` stands for. Default: nft. */
  readonly hostBackend?: Backend;
}

/** Which calls are to fail, and how. What is left out means any. */
export interface Failing {
  readonly kind: ErrorKind;
  readonly method?: keyof Firewall;
  readonly family?: Family;
  readonly backend?: Backend;
  /** How many calls; default: every one until `heal`. */
  readonly times?: number;
}

/** A write that landed: what a test asks for to see that there was one, or none. */
export interface Write {
  readonly by: 'iptables' | 'nft';
  readonly family?: Family;
  readonly backend?: Backend;
  readonly text: string;
}

/**
 * A small kernel: both backends and families and nf_tables in memory, atomic, refusing what the real ones refuse. It
 * passes the contract tests that iptables-nft and iptables-legacy pass.
 */
export class FakeFirewall implements Firewall {
  readonly writes: Write[] = [];
  private readonly hostBackend: Backend;
  private readonly legacy = new Map<Family, Ruleset>(FAMILIES.map((family) => [family, emptyRuleset(family, 'legacy')]));
  private nft: NftState = { ip: emptyRuleset('ipv4', 'nft'), ip6: emptyRuleset('ipv6', 'nft'), native: [] };
  private failing: (Failing & { left: number })[] = [];

  constructor(options: FakeOptions = {}) {
    this.hostBackend = options.hostBackend ?? 'nft';
  }

  async version(family: Family, backend: Backend | 'default'): Promise<Version> {
    const command = programName(family, backend, 'change');
    const real = backend === 'default' ? this.hostBackend : backend;
    this.mayFail({ command, args: ['--version'], stderr: '' }, 'version', family, real);
    return parseVersion(`${programName(family, 'default', 'change')} v1.8.9 (${real === 'nft' ? 'nf_tables' : 'legacy'})`)!;
  }

  async save(family: Family, backend: Backend, options: SaveOptions = {}): Promise<string> {
    const { table, counters = false } = options;
    const asked = { command: programName(family, backend, 'save'), args: table === undefined ? [] : ['-t', table], stderr: '' };
    this.mayFail(asked, 'save', family, backend);
    const { tables } = this.ruleset(family, backend);
    if (table === undefined) return [...tables.values()].map((each) => tableText(each, family, counters)).join('');
    if (!Object.hasOwn(TABLE_PRIORITY, table)) throw new IptablesError('unsupported', `${asked.command}: there is no table ${table}.`, asked);
    const known = tables.get(table) ?? (backend === 'nft' ? untouchedTable(table) : undefined);
    return known ? tableText(known, family, counters) : '';
  }

  async restore(family: Family, backend: Backend, payload: string): Promise<void> {
    const asked = { command: programName(family, backend, 'restore'), args: ['--noflush'], stdin: payload, stderr: '' };
    this.mayFail(asked, 'restore', family, backend);
    const applied = applyRestore(this.ruleset(family, backend), payload);
    this.replace(applied.ruleset);
    if ('refused' in applied) {
      const text = payload.split('\n')[applied.line - 1] ?? '';
      const kind = applied.refused.startsWith('there is no table') ? 'unsupported' : 'refused';
      throw new IptablesError(kind, `${asked.command}: refused line ${applied.line} \`${text}\`: ${applied.refused}. That table was left as it was.`, asked);
    }
    this.writes.push({ by: 'iptables', family, backend, text: payload });
  }

  async nftList(what: readonly string[]): Promise<string> {
    return this.listed('nftList', ['-j', ...what], listJson(this.nft, what));
  }

  async nftText(what: readonly string[]): Promise<string> {
    return this.listed('nftText', what, listText(this.nft, what));
  }

  private listed(method: 'nftList' | 'nftText', args: readonly string[], listed: ReturnType<typeof listJson>): string {
    const asked = { command: 'nft', args, stderr: '' };
    this.mayFail(asked, method);
    if (typeof listed === 'string') return listed;
    if (listed) throw new IptablesError('refused', `nft: refused: ${listed.refused}. Nothing was changed.`, asked);
    throw new IptablesError('unsupported', `The fake cannot ${args.join(' ')}.`, asked);
  }

  async nftRun(script: string): Promise<void> {
    const asked = { command: 'nft', args: ['-f', '-'], stdin: script, stderr: '' };
    this.mayFail(asked, 'nftRun');
    const statements = parseScript(script);
    const applied = 'unknown' in statements ? statements : applyStatements(this.nft, statements);
    if ('unknown' in applied) throw new IptablesError('unsupported', `The fake does not know this nft: ${applied.unknown}`, asked);
    if ('refused' in applied) throw new IptablesError('refused', `nft: refused: ${applied.refused}. Nothing was changed.`, asked);
    this.nft = applied.state;
    this.writes.push({ by: 'nft', text: script });
  }

  /** Puts there what iptables-save printed elsewhere, unchecked: tables it names are replaced, others stay. Not a write. */
  seed(family: Family, backend: Backend, saved: string): this {
    const seeded = parseSave(saved, { family, backend });
    this.replace({ ...seeded, tables: new Map([...this.ruleset(family, backend).tables, ...seeded.tables]) });
    return this;
  }

  /** Makes calls fail: `fail({ method: 'restore', kind: 'busy', times: 1 })`, `fail({ backend: 'nft', kind: 'not-installed' })`. */
  fail(failing: Failing): this {
    this.failing.push({ ...failing, left: failing.times ?? Number.POSITIVE_INFINITY });
    return this;
  }

  heal(): this {
    this.failing = [];
    return this;
  }

  /** All it holds as text: same contents, same bytes. */
  dump(): string {
    const parts: string[] = [];
    for (const family of FAMILIES) {
      for (const backend of ['nft', 'legacy'] as const) {
        for (const table of this.ruleset(family, backend).tables.values()) parts.push(`# ${programName(family, backend, 'change')}\n${tableText(table, family, true)}`);
      }
    }
    return [...parts, ...this.nft.native.map(nativeTableText)].join('');
  }

  private ruleset(family: Family, backend: Backend): Ruleset {
    return backend === 'legacy' ? this.legacy.get(family)! : family === 'ipv4' ? this.nft.ip : this.nft.ip6;
  }

  private replace(ruleset: Ruleset): void {
    if (ruleset.backend === 'legacy') this.legacy.set(ruleset.family, ruleset);
    else this.nft = { ...this.nft, [ruleset.family === 'ipv4' ? 'ip' : 'ip6']: ruleset };
  }

  /** nftList, nftText and nftRun count as the nft backend, of no family. */
  private mayFail(asked: Ran, method: keyof Firewall, family?: Family, backend: Backend = 'nft'): void {
    const found = this.failing.find(
      (one) => one.left > 0 && (one.method ?? method) === method && (one.family ?? family) === family && (one.backend ?? backend) === backend,
    );
    if (!found) return;
    found.left--;
    throw new IptablesError(found.kind, `${asked.command}: ${found.kind}, as the test asked for.`, asked);
  }
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

const emptyRuleset = (family: Family, backend: Backend): Ruleset => ({ family, backend, tables: new Map(), unread: [], notes: [] });

const tableText = (table: Table, family: Family, counters: boolean): string =>
  table.state === 'incompatible' ? `# Table \`${table.name}' is incompatible, use 'nft' tool.\n` : renderTable(table, family, { counters });
