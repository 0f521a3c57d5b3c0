/** What the caller can do about a failure; the message says it in words. */
export const ERROR_KINDS = {
  /** Install the program, or do without its backend. */
  notInstalled: 'not-installed',
  /** Run as root, with CAP_NET_ADMIN, in the right namespace. Also: the table has an owner who is not us. */
  notPermitted: 'not-permitted',
  /** Somebody else holds the lock: try again later. Nothing was changed. */
  busy: 'busy',
  /** No answer in time; the program was killed. What it was asked may have happened all the same: read again. */
  timedOut: 'timed-out',
  /** The caller's own signal. As with 'timed-out', read again. */
  aborted: 'aborted',
  /** An answer came and could not be understood. */
  unreadable: 'unreadable',
  /** This kernel or program has no such table, match, option or protocol: trying again will not help. */
  unsupported: 'unsupported',
  /** The kernel or the program understood, and said no. */
  refused: 'refused',
  /** None of the texts we know. */
  unexplained: 'unexplained',
} as const;
export type ErrorKind = (typeof ERROR_KINDS)[keyof typeof ERROR_KINDS];

/** How a program ended, and what it was asked. */
export interface Ran {
  readonly command: string;
  readonly args: readonly string[];
  readonly stdin?: string | undefined;
  readonly stderr: string;
  /** Undefined when it never started or was killed. */
  readonly exitCode?: number | undefined;
  /** `SIGSEGV`; undefined when it ended by itself. */
  readonly killedBy?: string | undefined;
  /** `ENOENT`: why it could not be started. */
  readonly spawnCode?: string | undefined;
  readonly cause?: unknown;
}

/** The one error that this package rejects with: a short message for people, the rest as fields for diagnosis. */
export class IptablesError extends Error {
  override readonly name = 'IptablesError';
  readonly kind: ErrorKind;
  readonly command: string;
  readonly args: readonly string[];
  readonly stdin: string | undefined;
  readonly stderr: string;
  readonly exitCode: number | undefined;

  constructor(kind: ErrorKind, message: string, ran: Ran) {
    super(message, ran.cause === undefined ? undefined : { cause: ran.cause });
    this.kind = kind;
    this.command = ran.command;
    this.args = ran.args;
    this.stdin = ran.stdin;
    this.stderr = ran.stderr;
    this.exitCode = ran.exitCode;
  }
}

export interface Explanation {
  readonly kind: ErrorKind;
  readonly message: string;
}

/** Why a program failed, by what it printed. Exit statuses decide nothing: iptables-nft uses 4 for lock, rights and rule alike. */
export function explainFailure(ran: Ran): Explanation {
  const started = explainStart(ran);
  if (started) return started;
  const lines = saidLines(ran.stderr);
  for (const row of ROWS) {
    for (const line of lines) {
      const found = row.says.exec(line);
      if (found) return { kind: row.kind, message: `${ran.command}: ${row.message(found, ran)}` };
    }
  }
  if (ran.killedBy !== undefined) {
    return { kind: 'unexplained', message: `${ran.command} was killed by ${ran.killedBy}. Read the ruleset again before going on.` };
  }
  const said = lines.find((line) => line !== '' && !line.startsWith('#'));
  return { kind: 'unexplained', message: `${ran.command} failed${ran.exitCode === undefined ? '' : ` with exit status ${ran.exitCode}`}: ${said ?? 'it printed nothing'}` };
}

function explainStart({ command, spawnCode }: Ran): Explanation | undefined {
  switch (spawnCode) {
    case undefined:
      return undefined;
    case 'ENOENT':
      return { kind: 'not-installed', message: notInstalled(command) };
    case 'EACCES':
    case 'EPERM':
      return { kind: 'not-permitted', message: `${command} may not be started (${spawnCode}): check its mode, and whether the file system is mounted noexec.` };
    default:
      return { kind: 'unexplained', message: `${command} could not be started: ${spawnCode}` };
  }
}

/** Where the programs come from. Amazon Linux 2 has one package for all, Amazon Linux 2023 one for each backend. */
function notInstalled(program: string): string {
  const name = program.slice(program.lastIndexOf('/') + 1);
  if (name === 'nft') return 'nft is not installed: on Debian, Ubuntu and Amazon Linux the package is nftables.';
  if (!/^ip6?tables/.test(name)) return `${name} is not installed.`;
  const amazon = /-legacy/.test(name) ? 'iptables-legacy' : 'iptables-nft';
  return `${name} is not installed: the package is iptables on Debian, Ubuntu and Amazon Linux 2, ${amazon} on Amazon Linux 2023.`;
}

/**
 * The lines a program says itself. nft echoes the line it complains about and underlines the place; that echo may hold
 * any words, a comment with "Operation not permitted" among them. iptables begins with its own name and version, which
 * goes. Everything is matched from the beginning of a line, so that a phrase quoted further on proves nothing.
 */
function saidLines(stderr: string): string[] {
  const lines = stderr.split('\n');
  const said: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    said.push(line.replace(NFT_PLACE, '').replace(OWN_NAME, ''));
    // `/dev/stdin:1:15-18: Error: …`, the echo, `        ^^^^`.
    if (NFT_ERROR.test(line) && UNDERLINE.test(lines[at + 2] ?? '')) at += 2;
  }
  return said;
}

const NFT_ERROR = /^(?:\S+:\d+:\d+-\d+: )?Error: /;
const UNDERLINE = /^\s*\^[\s^~]*$/;
const NFT_PLACE = /^\S+:\d+:\d+-\d+: (?=Error: )/;
const OWN_NAME = /^ip6?tables[a-z-]* v[\d.]+(?: \([a-z_]+\))?: (?:ip6?tables[a-z-]*: )?/;

interface Row {
  readonly says: RegExp;
  readonly kind: ErrorKind;
  readonly message: (found: RegExpExecArray, ran: Ran) => string;
}

const always = (message: string): Row['message'] => () => message;
const NOT_ROOT = always('not permitted. Run as root with CAP_NET_ADMIN.');
const LOCKED = always('another program holds the xtables lock. Nothing was changed; try again.');

/** Line N of what it was fed, as a quotation. Where N is the COMMIT, the kernel refused the table and named no line. */
function atLine(number: string | undefined, ran: Ran): string {
  const text = number === undefined ? undefined : ran.stdin?.split('\n')[Number(number) - 1];
  if (text === undefined) return 'what it was given';
  return text.startsWith('COMMIT') ? `the table that ends at line ${number}, without saying which rule,` : `line ${number} \`${text}\``;
}
const because = (reason: string) => (_found: RegExpExecArray, ran: Ran): string => {
  const line = /(?:Error occurred at line: |line )(\d+)/.exec(ran.stderr)?.[1];
  return `refused ${atLine(line, ran)}: ${reason}. That table was left as it was.`;
};
const quoting = (found: RegExpExecArray, ran: Ran): string => because(found[0].replace(/\.$/, ''))(found, ran);

/**
 * The texts. First row that fits, whatever line it fits. "Seen" is iptables 1.8.9 and nft 1.0.6 (Debian 12), made to
 * fail in a network namespace on Linux 6.18; everything else says where it is from.
 */
const ROWS: readonly Row[] = [
  // ── The lock (legacy only; iptables-nft takes --wait and has no lock). Exit 4.
  // Seen, -w N: "Another app is currently holding the xtables lock. Stopped waiting after 1s."
  // Without -w: "… lock. Perhaps you want to use the -w option?" (xshared.c, 1.4.20 to 1.8.10).
  // NOT the progress note "… lock; still 9s 0us time ahead …" (1.6 to 1.8.7): it is printed before a success, too.
  { says: /^Another app is currently holding the xtables lock\. *(?:Stopped waiting|Perhaps you want)/, kind: 'busy', message: LOCKED },
  // Seen: "Fatal: can't open lock file /run/xtables.lock: Read-only file system". Exit 4. A container without the host's /run.
  { says: /^Fatal: can't open lock file (\S+): (.*)/, kind: 'not-permitted', message: (found) => `cannot open ${found[1]} (${found[2]}). Mount the host's ${found[1]} writable, so that the lock is shared with it.` },

  // ── Not there.
  // Seen, under a prefix: ip netns exec 'exec of "x" failed: …', exit 1; "nsenter: failed to execute x: …", exit 127.
  { says: /^exec of "([^"]+)" failed: No such file or directory/, kind: 'not-installed', message: (found) => notInstalled(found[1]!) },
  { says: /^nsenter: failed to execute (\S+): No such file or directory/, kind: 'not-installed', message: (found) => notInstalled(found[1]!) },

  // ── Rights.
  // Seen, iptables-nft, every verb, exit 4: "Could not fetch rule set generation id: Permission denied (you must be root)".
  // Seen, iptables-legacy -S, exit 3: "can't initialize iptables table `filter': Permission denied (you must be root)".
  // Seen, iptables-legacy-save -t, exit 1: "Cannot initialize: Permission denied (you must be root)".
  { says: /^(?:Could not fetch rule set generation id|can't initialize ip6?tables table `[^']*'|Cannot initialize): Permission denied \(you must be root\)/, kind: 'not-permitted', message: NOT_ROOT },
  // Seen, iptables-legacy-save, exit 1: "Failed to list table names in /proc/net/ip_tables_names: Permission denied".
  { says: /^Failed to list table names in \S+: Permission denied/, kind: 'not-permitted', message: NOT_ROOT },
  // Seen, nft list as nobody, exit 1: "Operation not permitted (you must be root)" and "netlink: Error: cache initialization failed: …".
  { says: /^Operation not permitted \(you must be root\)/, kind: 'not-permitted', message: NOT_ROOT },
  { says: /^netlink: Error: cache initialization failed: Operation not permitted/, kind: 'not-permitted', message: NOT_ROOT },
  // Seen, nft, exit 1, as nobody, and as root when another process owns the table (`flags owner`).
  { says: /^Error: Could not process rule: Operation not permitted/, kind: 'not-permitted', message: always('not permitted. Run as root with CAP_NET_ADMIN; if that is so, another process owns the table (flags owner).') },
  // iptables-nft, the same on a table with an owner: nft.c prints the errno of the batch. Not seen.
  { says: /^line \d+: \w+ failed \(Operation not permitted\)/, kind: 'not-permitted', message: always('not permitted. Run as root with CAP_NET_ADMIN; if that is so, another process owns the table (flags owner).') },

  // ── This kernel or this program cannot.
  // Seen, iptables-legacy -t x, exit 3; libiptc's text. "iptables who?" is a kernel without ip_tables at all (libiptc; not seen).
  { says: /^(?:can't initialize ip6?tables table `([^']*)'|Cannot initialize): (?:Table does not exist|ip6?tables who\?) \(do you need to insmod\?\)/, kind: 'unsupported', message: (found) => `the kernel has no table ${found[1] ?? 'of that name'}, or may not load its module.` },
  // Seen: iptables-nft-restore, exit 2; iptables-nft-save -t, exit 1; iptables-nft -t, exit 3.
  { says: /^line \d+ table name '([^']*)' invalid/, kind: 'unsupported', message: (found) => `there is no table ${found[1]}.` },
  { says: /^[Tt]able [`']([^']*)' does not exist/, kind: 'unsupported', message: (found) => `there is no table ${found[1]}.` },
  // Seen, iptables-legacy-restore, exit 2, with the SAME words for a table that does not exist and for a reader who is not root:
  // so the text decides nothing. ProcessFirewall asks iptables-legacy-save -t, which says which.
  { says: /^unable to initialize table '([^']*)'/, kind: 'unexplained', message: (found) => `cannot open the table ${found[1]}: the kernel has none, or we may not. iptables-legacy-save -t ${found[1]} says which.` },
  // A kernel without nf_tables: "Failed to initialize nft: Protocol not supported" (nft.c; bug reports of iptables 1.8.2, not seen).
  { says: /^Failed to initialize nft: (.*)/, kind: 'unsupported', message: (found) => `this kernel has no nf_tables (${found[1]}). Use the legacy backend.` },
  // The same of nft: "mnl.c:60: Unable to initialize Netlink socket: Protocol not supported", "netlink: Error: cache initialization failed: Invalid argument" (mnl.c, libnftables.c; not seen).
  { says: /^(?:\S+:\d+: )?(?:Unable to initialize Netlink socket|netlink: Error: cache initialization failed): (Protocol not supported|Operation not supported|Invalid argument)/, kind: 'unsupported', message: (found) => `this kernel has no nf_tables (${found[1]}). Use the legacy backend.` },
  { says: /^Could not fetch rule set generation id: Invalid argument/, kind: 'unsupported', message: always('this kernel has no nf_tables. Use the legacy backend.') },
  // Seen, both, exit 2: "Couldn't load match `nomatch':No such file or directory". An extension that this iptables lacks.
  { says: /^Couldn't load match `([^']*)':/, kind: 'unsupported', message: (found) => `there is no match ${found[1]} in this iptables.` },
  // Seen, getopt, exit 1: "iptables-legacy-restore: unrecognized option '--bogus'". --wait came to restore with 1.6.2.
  { says: /^ip6?tables[a-z-]*: unrecognized option '([^']*)'/, kind: 'unsupported', message: (found) => `does not know ${found[1]}. iptables 1.6.2 or later is needed.` },
  // A rule that iptables-nft holds but has no module for (libxtables; not seen). A warning: the failure proper may stand below it, so this row is after those of the lock and of rights.
  { says: /^Warning: Extension (\S+) (?:revision 0 )?(?:is )?not supported, missing kernel module\?/, kind: 'unsupported', message: (found) => `the kernel has no ${found[1]}, or may not load its module.` },

  // ── Cannot be shown.
  // Seen, iptables-nft -S, exit 1, on a native rule; also, falsely, for `-S NOCHAIN`: "chain `NOCHAIN' in table `filter' is incompatible".
  { says: /^(?:chain `([^']*)' in )?table `([^']*)' is incompatible, use 'nft' tool/, kind: 'unreadable', message: (found) => (found[1] === undefined ? `the table ${found[2]} holds nftables rules that iptables cannot show. Look with nft.` : `the chain ${found[1]} of ${found[2]} does not exist, or holds nftables rules that iptables cannot show.`) },
  // Seen, iptables-nft-restore, exit 3: a -D that finds nothing in a chain with a native rule.
  { says: /^Parsing nftables rule failed/, kind: 'unreadable', message: always('the chain holds nftables rules that iptables cannot read. Look with nft.') },

  // ── No.
  // Seen, legacy, exit 2: a jump to a chain that is not there reads like a missing extension.
  { says: /^Couldn't load target `([^']*)':/, kind: 'refused', message: (found, ran) => because(`there is no chain and no target ${found[1]}`)(found, ran) },
  // Seen, iptables-nft-restore, exit 2, with the line of the COMMIT.
  { says: /^Chain '([^']*)' does not exist/, kind: 'refused', message: (found) => `refused a jump to ${found[1]}: there is no such chain. That table was left as it was.` },
  // Seen, nft, exit 4 though nobody is busy: "line 6: CHAIN_DEL failed (Device or resource busy): chain A".
  { says: /^line \d+: CHAIN_DEL failed \(Device or resource busy\): chain (.*)/, kind: 'refused', message: (found, ran) => because(`chain ${found[1]} has rules or is jumped to`)(found, ran) },
  // Seen, nft, exit 4: "line 2: RULE_APPEND failed (Invalid argument): rule in chain FORWARD", and "(Too many links)" for a loop.
  { says: /^line \d+: (\w+) failed \((.*)\): (.*)/, kind: 'refused', message: (found, ran) => because(`${found[2]}, ${found[3]}`)(found, ran) },
  // Seen, nft, exit 1: "iptables-nft-restore: line 2 failed: No chain/target/match by that name."; legacy stops after "failed".
  { says: /^ip6?tables[a-z-]*: line \d+ failed: (.*?)\.?$/, kind: 'refused', message: (found, ran) => because(found[1]!)(found, ran) },
  { says: /^ip6?tables[a-z-]*: line \d+ failed$/, kind: 'refused', message: because('it does not say why') },
  // Seen, both, exit 1.
  { says: /^ip6?tables[a-z-]*: COMMIT expected at line \d+/, kind: 'refused', message: always('the last table has no COMMIT. Tables before it were committed.') },
  // Seen, iptables -C, -D, -X, exit 1: "iptables: Bad rule (does a matching rule exist in that chain?)."
  { says: /^ip6?tables[a-z-]*: (No chain\/target\/match by that name|Bad rule \(does a matching rule exist in that chain\?\)|Chain already exists|Directory not empty|Too many links|Index of \w+ too big|Bad built-in chain name|Bad policy name)\.?$/, kind: 'refused', message: quoting },
  // Seen, both, exit 2, before anything reaches the kernel. The words in quotes are the payload's own.
  { says: /^(?:Bad argument `|unknown option "|Can't use -[io] with |interface name `|chain name |Invalid chain name `|Invalid rule number `|invalid port\/service `|host\/network `|multiple -\S+ flags not allowed|Empty interface |The -t option cannot |Illegal option `|error creating chain '|Can't set policy `|Set \S+ doesn't exist|line \d+ policy invalid).*/, kind: 'refused', message: quoting },
  // Seen, both, exit 2: "The "nat" table is not intended for filtering, the use of DROP is therefore inhibited."
  { says: /^The "nat" table is not intended for filtering/, kind: 'refused', message: because('the nat table takes no DROP') },
  // Seen, nft, exit 1: "Error: syntax error, unexpected newline"; "Error: No such file or directory; did you mean table …"; "Error: Could not process rule: File exists".
  { says: /^Error: (?:Could not process rule: )?(.*)/, kind: 'refused', message: (found) => `refused: ${found[1]}. Nothing was changed.` },
  // Whatever else is said of a line, both, exit 2.
  { says: /^Error occurred at line: \d+/, kind: 'refused', message: (found, ran) => because(firstWords(ran.stderr))(found, ran) },
];

const firstWords = (stderr: string): string =>
  saidLines(stderr).find((line) => line.trim() !== '' && !line.startsWith('#') && !line.startsWith('Error occurred')) ?? 'it does not say why';
