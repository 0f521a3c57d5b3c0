// Who undid it: two hundred programs that end within milliseconds, each known to this test by name and number.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { Culprit, Overwrite } from '../../agent/core/watch-status.ts';
import { Daemon } from '../bench/watch/daemon.ts';
import { DOCUMENTED, DocumentedRule } from '../bench/watch/documented-rule.ts';

const program = fileURLToPath(new URL('../../dist/imds-guard', import.meta.url));
const run = (file: string, args: readonly string[], input = ''): string => execFileSync(file, args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'inherit'] });

const OVERWRITES = 200;
/** The daemon keeps a hundred; asked for in time, none is missed. */
const ASK_EVERY = 50;
const BACK_WITHIN_MS = 20_000;
const podUid = '0f5c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b';
const container = '4be2f0d1'.repeat(8);

/** In a network namespace of its own: the daemon is the only one there is. */
if (process.env['OWN_NETWORK'] === undefined) await t.spawn('unshare', ['-n', process.execPath, fileURLToPath(import.meta.url)], { env: { ...process.env, OWN_NETWORK: 'yes' } }, 'in a network namespace of its own');
else await everything();

/** What this test knows of a process that it started. */
interface Known {
  readonly name: string;
  readonly pid: number;
  readonly commandLine: string;
  readonly inPod: boolean;
}

async function everything(): Promise<void> {
  run('ip', ['link', 'set', 'lo', 'up']);
  for (const guard of ['auto', 'none'] as const) {
    await t.test(`${OVERWRITES} short-lived programs, ${guard === 'none' ? 'without' : 'with'} a guard table`, async (t) => {
      const daemon = new Daemon(program, { IMDS_GUARD_GUARD: guard });
      t.teardown(() => daemon.stop());
      await daemon.blocked();
      const rule = await DocumentedRule.watch();
      t.teardown(() => rule.end());
      const names = namedPrograms(t);
      const pod = podCgroup(t);
      const known: Known[] = [];
      const told = new Map<string, Overwrite>();
      for (let at = 0; at < OVERWRITES; at++) {
        const back = rule.back(BACK_WITHIN_MS);
        known.push(await undo(names[at % names.length]!, rule, at % 4 === 3 ? pod : undefined));
        await back;
        if ((at + 1) % ASK_EVERY > 0) continue;
        for (const one of await entered(daemon, at + 1)) told.set(`${one.at} ${one.culprit.pid ?? ''}`, one);
      }
      compare(t, known, [...told.values()], pod !== undefined);
    });
  }
}

function compare(t: Test, known: readonly Known[], told: readonly Overwrite[], hasCgroups: boolean): void {
  const pairs = known.map((process) => ({ process, culprits: told.filter(({ culprit }) => culprit.pid === process.pid).map(({ culprit }) => culprit) }));
  const named = pairs.filter(({ process, culprits }) => culprits.some(({ name }) => name === process.name));
  t.ok(named.length >= 0.95 * known.length, `${named.length} of ${known.length} are named, with their number`);
  t.same(pairs.filter(({ process, culprits }) => !culprits.every((culprit) => isTrueOf(culprit, process))), [], 'and nothing that is said of any is wrong');
  t.same(told.filter(({ culprit }) => culprit.pid !== undefined && !known.some(({ pid }) => pid === culprit.pid)), [], 'nobody else is named');
  t.equal(told.length, known.length, 'each is told once');
  const ofAll = (field: keyof Culprit): number => pairs.filter(({ culprits }) => culprits.some((culprit) => culprit[field] !== undefined)).length;
  t.comment(`of ${known.length} also the command line: ${ofAll('commandLine')}, parent: ${ofAll('parent')}; of ${known.filter(({ inPod }) => inPod).length} in a pod: ${ofAll('podUid')}`);
  if (!hasCgroups) t.comment('NO CGROUPS can be made here: pods were not tried');
}

/** What is not said is no mistake; a pod that it was not in, or somebody else's words, would be. */
function isTrueOf(culprit: Culprit, { name, pid, commandLine, inPod }: Known): boolean {
  const says = <Field extends keyof Culprit>(field: Field, truth: Culprit[Field]): boolean => culprit[field] === undefined || culprit[field] === truth;
  return says('name', name) && says('pid', pid) && says('commandLine', commandLine) && says('podUid', inPod ? podUid : undefined) && says('container', inPod ? container : undefined);
}

/** The overwrites that it keeps, once it has entered so many: a rule is back a moment before its loss is entered. */
async function entered(daemon: Daemon, count: number): Promise<readonly Overwrite[]> {
  for (;;) {
    const { overwrites, counts } = await daemon.status();
    if (Object.values(counts.overwritesByCulprit).reduce((sum, one) => sum + one, 0) >= count) return overwrites;
  }
}

interface Named {
  readonly file: string;
  readonly does: 'iptables' | 'restore' | 'nft';
}

/** The three programs under the names of many agents: the kernel calls a process by the file it was started from. */
function namedPrograms(t: Test): Named[] {
  const folder = mkdtempSync(join(tmpdir(), 'imds-guard-names-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const real = (name: string): string => run('readlink', ['-f', run('sh', ['-c', `PATH="$PATH:/usr/sbin:/sbin" command -v ${name}`]).trim()]).trim();
  const [iptables, nft] = [real('iptables-nft'), real('nft')];
  return ['iptables', 'restore', 'nft'].flatMap((does) =>
    Array.from({ length: 14 }, (_, at) => `${does}-no-${at}`).map((name): Named => {
      const file = join(folder, name);
      symlinkSync(does === 'nft' ? nft : iptables, file);
      return { file, does: does as Named['does'] };
    }),
  );
}

/** A program that deletes the rule, and has ended. */
async function undo(named: Named, rule: DocumentedRule, pod: string | undefined): Promise<Known> {
  const [{ file, does }, handle] = [named, rule.handle!];
  const args = { iptables: ['iptables', '-D', 'FORWARD', ...DOCUMENTED.split(' ')], restore: ['iptables-restore', '--noflush'], nft: ['delete', 'rule', 'ip', 'filter', 'FORWARD', 'handle', String(handle)] }[does];
  // The shell enters the cgroup and becomes the program, so the number stays.
  const child: ChildProcess = spawn('sh', ['-c', `${pod === undefined ? '' : `echo $$ >'${pod}/cgroup.procs'; `}exec "$0" "$@"`, file, ...args], { stdio: ['pipe', 'ignore', 'inherit'] });
  // One that has nothing to read may be gone before this; one that fails says so by its exit.
  child.stdin!.on('error', () => {}).end(does === 'restore' ? `*filter\n-D FORWARD ${DOCUMENTED}\nCOMMIT\n` : '');
  const [code] = (await once(child, 'close')) as [number | null];
  // A second copy, which the daemon has taken away itself meanwhile: nobody undid anything.
  if (code !== 0 && rule.handle !== handle) return undo(named, rule, pod);
  if (code !== 0) throw new Error(`${file} ended with ${code}`);
  // Fifteen bytes of the file's name.
  return { name: file.slice(file.lastIndexOf('/') + 1).slice(0, 15), pid: child.pid!, commandLine: [file, ...args].join(' '), inPod: pod !== undefined };
}

/** A cgroup as kubelet names them, under one of our own; undefined where none may be made. */
function podCgroup(t: Test): string | undefined {
  const [mount] = /^cgroup2? (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.slice(1) ?? [];
  if (mount === undefined || !existsSync(mount)) return undefined;
  const levels = [`imds-guard-test-${process.pid}`, 'kubepods', `pod${podUid}`, container];
  const made: string[] = [];
  t.teardown(() => {
    // A cgroup is empty once its last process has been waited for.
    for (const level of made.reverse()) rmdirSync(level);
  });
  try {
    for (const [at] of levels.entries()) {
      const level = join(mount, ...levels.slice(0, at + 1));
      mkdirSync(level);
      made.push(level);
    }
  } catch {
    return undefined;
  }
  return made.at(-1);
}
