import { IptablesError } from '../errors.ts';
import type { Firewall, SaveOptions, Version } from '../firewall.ts';
import { type Backend, TABLE_PRIORITY } from '../model.ts';
import type { Family } from '../sets/address.ts';
import { parseVersion, programName } from '../versions.ts';
import { legacyTables, legacyTablesFile, tableNames } from './legacy-tables.ts';
import { type Output, run } from './run.ts';

export interface ProcessFirewallOptions {
  /** For each program; waiting for the lock comes on top. Default: 10 s. */
  readonly timeoutMs?: number;
  /** How long iptables-legacy waits for the xtables lock. iptables-nft has none. Default: 5 s. */
  readonly lockWaitSeconds?: number;
  readonly signal?: AbortSignal;
  /** Other names or paths for programs: `{ 'iptables-legacy-save': '/opt/iptables-save' }`. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Words before each program, to work in another namespace: `['ip', 'netns', 'exec', 'pod']`. */
  readonly prefix?: readonly string[];
  /** The caller's PATH, searched after the usual directories. */
  readonly path?: string;
}

/** The firewall of this machine (or of a namespace), by its own programs. */
export class ProcessFirewall implements Firewall {
  private readonly options: ProcessFirewallOptions;

  constructor(options: ProcessFirewallOptions = {}) {
    this.options = options;
  }

  async version(family: Family, backend: Backend | 'default'): Promise<Version> {
    const program = programName(family, backend, 'change');
    const { stdout, stderr } = await this.run(program, ['--version']);
    const version = parseVersion(stdout);
    if (!version) throw new IptablesError('unreadable', `${program} --version printed no version: ${stdout.trim()}`, { command: program, args: ['--version'], stderr });
    return version;
  }

  /**
   * A table that iptables-nft cannot show is no failure: the text says so, and `parseSave` keeps it as a state. Asked for
   * one table that is not there, iptables-nft prints it as it would be, empty, and makes none.
   */
  async save(family: Family, backend: Backend, options: SaveOptions = {}): Promise<string> {
    const { table, counters = false } = options;
    const program = programName(family, backend, 'save');
    const args = [...(table === undefined ? [] : ['-t', table]), ...(counters ? ['-c'] : [])];
    if (table !== undefined && !Object.hasOwn(TABLE_PRIORITY, table)) {
      throw new IptablesError('unsupported', `${program}: there is no table ${table}.`, { command: program, args, stderr: '' });
    }
    if (backend === 'legacy' && !(await this.hasLegacyTable(family, table, program, args))) return '';
    return (await this.run(program, args)).stdout;
  }

  async restore(family: Family, backend: Backend, payload: string): Promise<void> {
    const wait = this.options.lockWaitSeconds ?? 5;
    try {
      await this.run(programName(family, backend, 'restore'), ['--noflush', '--wait', String(wait)], payload, wait * 1000);
    } catch (error) {
      throw backend === 'legacy' && error instanceof IptablesError ? await this.explained(family, error) : error;
    }
  }

  async nftList(what: readonly string[]): Promise<string> {
    return (await this.run('nft', ['-j', ...what])).stdout;
  }

  async nftText(what: readonly string[]): Promise<string> {
    return (await this.run('nft', what)).stdout;
  }

  async nftRun(script: string): Promise<void> {
    await this.run('nft', ['-f', '-'], script);
  }

  /** Whether there is anything to save. Never lets a program ask, for that would load the table's module. */
  private async hasLegacyTable(family: Family, table: string | undefined, program: string, args: readonly string[]): Promise<boolean> {
    const tables = await this.legacyTables(family);
    if (tables === 'unreadable') {
      throw new IptablesError('not-permitted', `${legacyTablesFile(family)} may not be read. Run as root with CAP_NET_ADMIN.`, { command: program, args, stderr: '' });
    }
    return table === undefined ? tables.length > 0 : tables.includes(table);
  }

  /** Behind a prefix lies another /proc/net, which only a program that is started there can read. */
  private async legacyTables(family: Family): Promise<readonly string[] | 'unreadable'> {
    if (!this.options.prefix?.length) return legacyTables(family);
    try {
      return tableNames((await this.run('cat', [legacyTablesFile(family)])).stdout);
    } catch (error) {
      const said = error instanceof IptablesError ? error.stderr : '';
      if (/^cat: .*: No such file or directory$/m.test(said)) return [];
      if (/^cat: .*: Permission denied$/m.test(said)) return 'unreadable';
      throw error;
    }
  }

  /** iptables-legacy-restore says the same of a missing table and of missing rights; iptables-legacy-save does not. */
  private async explained(family: Family, error: IptablesError): Promise<unknown> {
    const table = /unable to initialize table '([^']*)'/.exec(error.stderr)?.[1];
    if (error.kind !== 'unexplained' || table === undefined) return error;
    try {
      await this.run(programName(family, 'legacy', 'save'), ['-t', table]);
      return error;
    } catch (reason) {
      return reason instanceof IptablesError ? new IptablesError(reason.kind, reason.message, { ...error, cause: error }) : reason;
    }
  }

  private run(program: string, args: readonly string[], stdin?: string, waitMs = 0): Promise<Output> {
    const { timeoutMs = 10_000, signal, programs, prefix, path } = this.options;
    return run({ program: programs?.[program] ?? program, args, stdin, timeoutMs: timeoutMs + waitMs, signal, prefix, path });
  }
}
