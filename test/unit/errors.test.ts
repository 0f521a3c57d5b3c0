import t from 'tap';
import { type ErrorKind, IptablesError, type Ran, explainFailure } from '../../agent/node-iptables/src/errors.ts';

const ran = (command: string, exitCode: number, stderr: string, stdin?: string): Ran => ({ command, args: [], exitCode, stderr, stdin });
const NFT_RESTORE = 'iptables-nft-restore v1.8.9 (nf_tables): ';
const LEGACY_RESTORE = 'iptables-restore v1.8.9 (legacy): ';
const TRY = "Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n";

t.test('captured from iptables 1.8.9 and nft 1.0.6', async (t) => {
  const seen: readonly (readonly [ErrorKind, string, number, string])[] = [
    ['busy', 'iptables-legacy-restore', 4, "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 1s.\n"],
    ['not-permitted', 'iptables-legacy-restore', 4, "Fatal: can't open lock file /run/xtables.lock: Read-only file system\n"],
    ['not-permitted', 'iptables-nft-save', 4, 'iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n'],
    ['not-permitted', 'iptables-legacy', 3, "iptables v1.8.9 (legacy): can't initialize iptables table `filter': Permission denied (you must be root)\nPerhaps iptables or your kernel needs to be upgraded.\n"],
    ['not-permitted', 'iptables-legacy-save', 1, 'Failed to list table names in /proc/net/ip_tables_names: Permission denied\n'],
    ['not-permitted', 'iptables-legacy-save', 1, 'iptables-save v1.8.9 (legacy): Cannot initialize: Permission denied (you must be root)\n'],
    ['not-permitted', 'nft', 1, 'Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed: Operation not permitted\n'],
    ['not-permitted', 'nft', 1, '/dev/stdin:1:1-17: Error: Could not process rule: Operation not permitted\nadd table inet a\n^^^^^^^^^^^^^^^^^\n'],
    ['not-permitted', 'nft', 1, 'Error: Could not process rule: Operation not permitted\ndelete table inet own\n                  ^^^\n'],
    ['unsupported', 'iptables-legacy', 3, "iptables v1.8.9 (legacy): can't initialize iptables table `nosuch': Table does not exist (do you need to insmod?)\nPerhaps iptables or your kernel needs to be upgraded.\n"],
    ['unsupported', 'iptables-legacy-save', 1, 'iptables-save v1.8.9 (legacy): Cannot initialize: Table does not exist (do you need to insmod?)\n'],
    ['unsupported', 'iptables-nft-restore', 2, `${NFT_RESTORE}iptables-nft-restore: line 1 table name 'nosuch' invalid\nError occurred at line: 1\n${TRY}`],
    ['unsupported', 'iptables-nft-save', 1, "Table `nosuch' does not exist\n"],
    ['unsupported', 'iptables-nft', 3, "iptables v1.8.9 (nf_tables): table 'nosuch' does not exist\nPerhaps iptables or your kernel needs to be upgraded.\n"],
    ['unsupported', 'iptables-nft-restore', 2, `${NFT_RESTORE}Couldn't load match \`nomatch':No such file or directory\n\nError occurred at line: 2\n${TRY}`],
    ['unsupported', 'iptables-legacy-restore', 1, "iptables-legacy-restore: unrecognized option '--bogus'\n"],
    ['unreadable', 'iptables-nft', 1, "# Warning: iptables-legacy tables present, use iptables-legacy to see them\niptables v1.8.9 (nf_tables): table `filter' is incompatible, use 'nft' tool.\n"],
    ['unreadable', 'iptables-nft', 1, "iptables v1.8.9 (nf_tables): chain `NOCHAIN' in table `filter' is incompatible, use 'nft' tool.\n"],
    ['unreadable', 'iptables-nft-restore', 3, `Error: cmp sreg undef\n${NFT_RESTORE}Parsing nftables rule failed\nPerhaps iptables-nft-restore or your kernel needs to be upgraded.\n`],
    ['refused', 'iptables-nft-restore', 1, 'iptables-nft-restore: line 2 failed: No chain/target/match by that name.\n'],
    ['refused', 'iptables-legacy-restore', 1, 'iptables-restore: line 2 failed\n'],
    ['refused', 'iptables-nft-restore', 4, `${NFT_RESTORE}\nline 2: RULE_APPEND failed (Invalid argument): rule in chain FORWARD\n`],
    ['refused', 'iptables-nft-restore', 4, `${NFT_RESTORE}\nline 6: CHAIN_DEL failed (Device or resource busy): chain A\n`],
    ['refused', 'iptables-nft-restore', 2, `${NFT_RESTORE}Chain 'NOCHAIN' does not exist\nError occurred at line: 3\n${TRY}`],
    ['refused', 'iptables-legacy-restore', 2, `${LEGACY_RESTORE}Couldn't load target \`NOCHAIN':No such file or directory\n\nError occurred at line: 2\n${TRY}`],
    ['refused', 'iptables-legacy-restore', 2, `${LEGACY_RESTORE}\nThe "nat" table is not intended for filtering, the use of DROP is therefore inhibited.\n\n\nError occurred at line: 2\n${TRY}`],
    ['refused', 'iptables-nft-restore', 1, 'iptables-nft-restore: COMMIT expected at line 3\n'],
    ['refused', 'iptables-nft', 1, 'iptables: Bad rule (does a matching rule exist in that chain?).\n'],
    ['refused', 'nft', 1, 'Error: Could not process rule: No such file or directory\ndelete table inet nope\n                  ^^^^\n'],
    ['refused', 'nft', 1, '/dev/stdin:1:12-12: Error: syntax error, unexpected newline\nbogus thing\n           ^\n'],
    ['unexplained', 'iptables-legacy-restore', 2, `${LEGACY_RESTORE}iptables-restore: unable to initialize table 'filter'\nError occurred at line: 1\n${TRY}`],
    ['not-installed', 'iptables-nft', 1, 'exec of "iptables-nft" failed: No such file or directory\n'],
    ['not-installed', 'iptables-nft', 127, 'nsenter: failed to execute iptables-nft: No such file or directory\n'],
  ];
  for (const [kind, command, exitCode, stderr] of seen) {
    const explained = explainFailure(ran(command, exitCode, stderr));
    t.equal(explained.kind, kind, `${stderr}→ ${explained.message}`);
    t.match(explained.message, /^\S+: .|^\S+ is not/);
    t.notMatch(explained.message, /\n/, 'one line');
  }
});

t.test('known from the source only', async (t) => {
  for (const stderr of ['mnl.c:60: Unable to initialize Netlink socket: Protocol not supported\n', 'netlink: Error: cache initialization failed: Invalid argument\n']) {
    t.match(explainFailure(ran('nft', 1, stderr)), { kind: 'unsupported', message: /no nf_tables/ });
  }
});

t.test('texts that lie', async (t) => {
  const lies: readonly (readonly [ErrorKind, string, Ran])[] = [
    ['refused', 'the phrase is in the line that nft echoes', ran('nft', 1, '/dev/stdin:1:20-23: Error: Could not process rule: No such file or directory\nadd rule ip filter nope counter drop comment "Operation not permitted"\n                   ^^^^\n')],
    ['refused', 'the whole echo looks like another error', ran('nft', 1, '/dev/stdin:1:1-5: Error: syntax error, unexpected string\nOperation not permitted (you must be root)\n^^^^^\n')],
    ['refused', 'the phrase is in the bad argument', ran('iptables-nft-restore', 2, `Bad argument \`Another app is currently holding the xtables lock. Stopped waiting'\nError occurred at line: 2\n${TRY}`)],
    ['refused', 'a chain is called like an error', ran('iptables-nft-restore', 2, `${NFT_RESTORE}Chain 'Permission denied (you must be root)' does not exist\nError occurred at line: 3\n`)],
    ['refused', 'exit status 4 is not always the lock', ran('iptables-nft-restore', 4, `${NFT_RESTORE}\nline 6: CHAIN_DEL failed (Device or resource busy): chain A\n`)],
    ['refused', 'a progress note about the lock, then another failure', ran('iptables-legacy-restore', 1, 'Another app is currently holding the xtables lock; still 4s 0us time ahead to have a chance to grab the lock...\niptables-restore: line 2 failed\n')],
    ['unexplained', 'a progress note alone', ran('iptables-legacy-restore', 1, 'Another app is currently holding the xtables lock; waiting (1s) for it to exit...\n')],
    ['unexplained', 'the phrase is not at the beginning', ran('iptables-legacy-restore', 9, 'hello: Permission denied (you must be root)\n')],
  ];
  for (const [kind, what, failure] of lies) t.equal(explainFailure(failure).kind, kind, what);
});

t.test('messages quote the line that was refused', async (t) => {
  const payload = '*filter\n-A NOWHERE -j ACCEPT\nCOMMIT\n';
  t.equal(
    explainFailure(ran('iptables-legacy-restore', 1, 'iptables-restore: line 2 failed\n', payload)).message,
    'iptables-legacy-restore: refused line 2 `-A NOWHERE -j ACCEPT`: it does not say why. That table was left as it was.',
  );
  t.match(explainFailure(ran('iptables-legacy-restore', 1, 'iptables-restore: line 3 failed\n', payload)).message, 'the table that ends at line 3, without saying which rule');
  t.match(
    explainFailure(ran('iptables-nft-restore', 2, `${NFT_RESTORE}unknown option "--bogus"\nError occurred at line: 2\n${TRY}`, payload)).message,
    'refused line 2 `-A NOWHERE -j ACCEPT`: unknown option "--bogus".',
  );
});

t.test('programs that do not start', async (t) => {
  const missing = (command: string): string => explainFailure({ command, args: [], stderr: '', spawnCode: 'ENOENT' }).message;
  t.equal(missing('iptables-legacy-save'), 'iptables-legacy-save is not installed: the package is iptables on Debian, Ubuntu and Amazon Linux 2, iptables-legacy on Amazon Linux 2023.');
  t.match(missing('ip6tables-nft-restore'), 'iptables-nft on Amazon Linux 2023');
  t.match(missing('nft'), 'the package is nftables');
  t.equal(missing('/opt/other'), 'other is not installed.');
  t.match(explainFailure({ command: 'nft', args: [], stderr: '', spawnCode: 'EACCES' }), { kind: 'not-permitted' });
  t.match(explainFailure({ command: 'nft', args: [], stderr: '', spawnCode: 'E2BIG' }), { kind: 'unexplained' });
});

t.test('a program that crashes: iptables-nft-restore 1.8.9 does, when -R replaces a rule of the same payload', async (t) => {
  t.match(explainFailure({ command: 'iptables-nft-restore', args: [], stderr: '', killedBy: 'SIGSEGV' }), { kind: 'unexplained', message: /killed by SIGSEGV.*Read the ruleset again/ });
});

t.test('an IptablesError keeps what it was made of', async (t) => {
  const cause = new Error('spawn');
  const error = new IptablesError('busy', 'later', { command: 'iptables', args: ['-S'], stdin: 'in', stderr: 'err', exitCode: 4, cause });
  t.match(error, { name: 'IptablesError', kind: 'busy', message: 'later', command: 'iptables', args: ['-S'], stdin: 'in', stderr: 'err', exitCode: 4 });
  t.equal(error.cause, cause);
  t.notOk('cause' in new IptablesError('busy', 'later', { command: 'iptables', args: [], stderr: '' }));
});
