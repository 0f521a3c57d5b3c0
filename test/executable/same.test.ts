// The executable is the program of dist/, in one file: what it says, where it says it, and how it ends.
import t from 'tap';
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sha256 } from '../../agent/executable/verify.mjs';
import { DROP, saved } from '../cli/program.ts';
import { arm64, executable, executableFor, folderProgram, noExecutable, run } from './executables.ts';

const skip = noExecutable;
const place = mkdtempSync(join(tmpdir(), 'imds-guard-executable-'));
t.teardown(() => rmSync(place, { recursive: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(place, name), text);
  return join(place, name);
};
const good = file('good.txt', saved(DROP));
const open = file('open.txt', saved('-A FORWARD -i eni+ -j ACCEPT', DROP));
const yaml = file('good.yaml', 'interfaces: [fromfile+]\n');
const typo = file('typo.yaml', 'interfacs: [eni+]');

interface Line {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}
const lines: readonly Line[] = [
  ...[['rules'], ['rules', '--family', 'ipv6'], ['rules', '--output', 'json', '--action', 'reject'], ['rules', '--mode', 'observe']].map((args) => ({ args })),
  ...['text', 'json', 'npd', 'prometheus'].flatMap((output) => [good, open].map((from) => ({ args: ['check', '--from', from, '--output', output] }))),
  { args: ['check', '--from', '-', '--branch-interface', 'eni+'], input: saved(DROP) },
  ...[['explain', '--from', open], ['explain', '--from', open, '--format', 'svg'], ['explain', '--from', open, '--target', 'zzz']].map((args) => ({ args })),
  // yargs, for help and mistakes.
  ...[[], ['--help'], ['check', '--help'], ['watch', '--help'], ['--version'], ['completion'], ['chek'], ['check', '--outptu'], ['check', '--output', 'xml'], ['version', '--output', 'npd']].map((args) => ({ args })),
  // yaml, for settings.
  { args: ['check', '--from', good, '--config', yaml] },
  { args: ['check', '--from', good, '--config', typo] },
  { args: ['check', '--from', good, '--config', '-'], input: '{"interfaces":["piped+"]}' },
  { args: ['check', '--from', good], env: { IMDS_GUARD_INTERFACES: 'fromenv+' } },
  { args: ['watch', '--port', '10250'] },
  { args: ['fleet', '--kubeconfig', '/no/such/file'] },
];
const asked = ({ args, env, input }: Line): string => [...Object.entries(env ?? {}).map(([name, value]) => `${name}=${value}`), ...args, ...(input === undefined ? [] : ['<', JSON.stringify(input.slice(0, 20))])].join(' ');

t.test('every line is answered with the same bytes and the same exit', { skip }, async (t) => {
  for (const line of lines) t.same(untimed(run([executable, ...line.args], line)), untimed(run([folderProgram, ...line.args], line)), asked(line));
});

t.test('version says what it is, whatever the settings say', { skip }, async (t) => {
  const bill = readFileSync(`${executable}.packages.json`);
  const told = JSON.parse(run([executable, 'version', '--output', 'json'], { env: { IMDS_GUARD_NONSENSE: 'x', IMDS_GUARD_CONFIG: '/no/such/file' } }).stdout) as Readonly<Record<string, string>>;
  t.match(told, { version: /^\d+\.\d+\.\d+$/, commit: /^([0-9a-f]{40}(-dirty)?|unknown)$/, node: process.versions.node, platform: 'linux', arch: process.arch, sbomSha256: sha256(bill) });
  t.same(run([executable, 'version']), { status: 0, stdout: `imds-guard ${told['version']} (commit ${told['commit']}, node ${told['node']}, linux ${told['arch']})\n`, stderr: '' });
  const { packages } = JSON.parse(bill.toString()) as { readonly packages: readonly { readonly name: string }[] };
  for (const name of ['execa', 'koffi', 'pino', 'yargs', `node-linux-${process.arch}`]) t.ok(packages.some((one) => one.name === name), name);
});

/** For Prometheus it says when it looked. */
function untimed<Ran extends { readonly stdout: string }>(ran: Ran): Ran {
  return { ...ran, stdout: ran.stdout.replace(/^(imds_guard_checked_timestamp_seconds) \d+$/m, '$1') };
}

t.test('it is one file: beside it nothing is read, and nothing is left', { skip }, async (t) => {
  const folder = join(place, 'alone');
  mkdirSync(folder);
  const copy = join(folder, 'imds-guard');
  copyFileSync(executable, copy);
  // What dist/ has, and what yargs looks for: a trap each.
  for (const name of ['imds-guard.cjs', 'start.cjs', 'yargs.cjs', 'koffi.cjs', 'koffi.node', 'packages.json', 'package.json']) file(`alone/${name}`, 'throw new Error("from beside");');
  mkdirSync(join(place, 'locales'));
  file('locales/en.json', '{"Options:":"from beside"}');
  for (const args of [['--help'], ['rules'], ['check', '--from', good], ['version']]) t.same(run([copy, ...args]), run([executable, ...args]), args.join(' '));
  t.equal(readdirSync(folder).length, 8, 'nothing was written there');

  symlinkSync(copy, join(place, 'link'));
  linkSync(copy, join(place, 'hard'));
  renameSync(copy, join(place, 'moved'));
  rmSync(join(place, 'link'));
  symlinkSync('moved', join(place, 'link'));
  for (const name of ['link', 'hard', 'moved']) t.match(run([join(place, name), 'rules']), { status: 0, stdout: /-A FORWARD/ }, name);
});

t.test('for arm64, as far as qemu-user shows', { skip: skip || (process.arch === 'arm64' ? 'it is what all the others run' : arm64 === undefined ? 'NOT RUN: there is no qemu-user here (qemu-user-static libstdc++6-arm64-cross libgcc-s1-arm64-cross)' : false) }, async (t) => {
  for (const args of [['rules'], ['check', '--from', good, '--output', 'json'], ['check', '--from', open], ['--help'], ['chek']]) t.same(run([...arm64!, ...args]), run([executable, ...args]), args.join(' '));
  t.match(JSON.parse(run([...arm64!, 'version', '--output', 'json']).stdout), { arch: 'arm64', node: process.versions.node, sbomSha256: sha256(readFileSync(`${executableFor('arm64')}.packages.json`)) });
});
