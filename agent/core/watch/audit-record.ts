/** Who replaced a table of iptables-legacy, as the audit of the kernel has it. */
export interface AuditRecord {
  readonly table: string;
  readonly family: 'ipv4' | 'ipv6' | 'inet' | 'other';
  /** `xt_replace`, `xt_register`, `nft_register_rule`, …; undefined before Linux 5.8, which told neither this nor who. */
  readonly op?: string;
  readonly pid?: number;
  /** The name of the process, a character for each byte (latin1), as culpritOf takes it. */
  readonly comm?: string;
}

/** A NETFILTER_CFG record of the audit log, after its `type=`. */
export const NETFILTER_CFG = 1325;

/**
 * `audit(1700000000.123:456): table=filter family=2 entries=5 op=xt_replace pid=123 subj=unconfined comm="iptables"`; the order
 * is not the same in every kernel. nft adds a generation, `table=filter:17`.
 *
 * The kernel writes the name of a table as it is, and names of nft tables are for anybody to choose, `x pid=1 y="` included.
 * All fields are there once, and quotes are around a name of a process alone: any other record somebody has made up.
 */
export function parseAuditRecord(text: string): AuditRecord | undefined {
  const [, rest] = /^audit\(\d+\.\d+:\d+\): (.*?)\0*\n?$/s.exec(text) ?? [];
  if (rest === undefined || rest.replace(/ ?comm="[^"]*"/, '').includes('"')) return undefined;
  const fields = new Map<string, string>();
  for (const [, key = '', value = ''] of rest.matchAll(/(?:^| )([a-z]+)=("[^"]*"|\S*)/g)) {
    if (fields.has(key)) return undefined;
    fields.set(key, value);
  }
  const [table, family, op, pid, comm] = ['table', 'family', 'op', 'pid', 'comm'].map((key) => fields.get(key));
  if (table === undefined || family === undefined || !/^\d+$/.test(family)) return undefined;
  if (pid !== undefined && !/^\d+$/.test(pid)) return undefined;
  return {
    table: op?.startsWith('nft_') ? table.replace(/:\d+$/, '') : table,
    family: FAMILIES[family] ?? 'other',
    ...(op === undefined ? {} : { op }),
    ...(pid === undefined ? {} : { pid: Number(pid) }),
    ...(comm === undefined ? {} : { comm: nameOf(comm) }),
  };
}

const FAMILIES: Readonly<Record<string, AuditRecord['family']>> = { 1: 'inet', 2: 'ipv4', 10: 'ipv6' };

/** A name with a space, a quote or a byte that is no ASCII is written in hexadecimal, without quotes. */
const nameOf = (written: string): string =>
  written.startsWith('"') ? written.slice(1, -1) : written.replace(/[0-9A-F]{2}/g, (byte) => String.fromCharCode(Number.parseInt(byte, 16)));
