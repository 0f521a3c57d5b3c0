// What is in the image, and what is not.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { type Stats, lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { builtImage } from './image.ts';

const image = builtImage();
const skip = 'missing' in image ? image.missing : false;
const root = 'missing' in image ? '' : image.root;
const version = (JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8')) as { readonly version: string }).version;

const mostBytes = 140_000_000;

/** Links are not followed: /bin and /usr/bin are one. */
const files = (folder = ''): readonly (readonly [string, Stats])[] =>
  readdirSync(join(root, folder)).flatMap(entry => {
    const name = join(folder, entry);
    const status = lstatSync(join(root, name));
    return [[name, status] as const, ...(status.isDirectory() ? files(name) : [])];
  });
const inside = (...words: readonly string[]): string => {
  const { stdout, stderr } = spawnSync('chroot', [root, ...words], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });
  return stdout + stderr;
};

t.test('it is small', { skip }, async t => {
  const bytes = files().reduce((sum, [, { size }]) => sum + size, 0);
  t.ok(bytes <= mostBytes, `${Math.round(bytes / 1e6)} MB of ${mostBytes / 1e6}`);
  t.ok(bytes > mostBytes / 2, 'and it is counted');
});

t.test('only root may change anything in it, and nothing gives anybody rights', { skip }, async t => {
  for (const [name, { uid, gid, mode }] of files()) {
    if (uid !== 0 || gid !== 0) t.fail(`${name} belongs to ${uid}:${gid}`);
    if ((mode & 0o170000) === 0o120000) continue; // a link has no mode of its own
    if ((mode & 0o022) !== 0) t.fail(`${name} can be written by others: ${mode.toString(8)}`);
    if ((mode & 0o6000) !== 0) t.fail(`${name} is set-id: ${mode.toString(8)}`);
    if (![0o100000, 0o040000].includes(mode & 0o170000)) t.fail(`${name} is neither file nor folder`);
  }
  t.ok(files().length > 200, 'files were looked at');
  const getcap = spawnSync('getcap', ['-r', root], { encoding: 'utf8' });
  if (!getcap.error) t.equal(getcap.stdout, '', 'no file has capabilities of its own');
});

t.test('both backends of iptables, and an nft that knows persist', { skip }, async t => {
  t.match(inside('/usr/sbin/iptables-nft', '-V'), /^iptables v1\.8\.(1[1-9]|[2-9]\d) \(nf_tables\)\n/);
  t.match(inside('/usr/sbin/ip6tables-legacy', '-V'), /^ip6tables v1\.8\.(1[1-9]|[2-9]\d) \(legacy\)\n/);
  t.match(inside('/usr/sbin/nft', '-V'), /^nftables v1\.([1-9]\d*)\./);
  for (const program of ['ip', 'tc', 'nsenter']) t.match(inside('/bin/sh', '-c', `PATH=/usr/sbin:/usr/bin ${program} -V`), /ip utility|tc utility|util-linux/, program);
});

t.test('the program starts by its name and by a link, and V8 takes the code that was compiled for it', { skip }, async t => {
  t.match(inside('/bin/sh', '-c', 'PATH=/opt/imds-guard:/usr/bin imds-guard --version'), version);
  const rejected = `const {readFileSync:r}=require('fs'),{Script}=require('vm'),f='/opt/imds-guard/imds-guard.cjs';
    const s=new Script('(function (exports, require, module, __filename, __dirname) { '+r(f,'latin1')+'\\n})',{filename:f,cachedData:r(f+'.cache')});console.log(s.cachedDataRejected)`;
  // tap would load its hooks into every Node.
  t.equal(inside('/bin/sh', '-c', 'unset NODE_OPTIONS; exec /opt/imds-guard/node -e "$1"', 'sh', rejected), 'false\n');
});

t.test('no package manager, no way to fetch, no shell but one', { skip }, async t => {
  const programs = ['usr/bin', 'usr/sbin'].flatMap(folder => readdirSync(join(root, folder)));
  t.same(programs.filter(name => /apt|dpkg|curl|wget|perl|python|bash|busybox|^su$|sudo|mount|chroot/.test(name)), []);
  t.same(readdirSync(root).sort(), ['bin', 'etc', 'lib', 'lib64', 'opt', 'run', 'sbin', 'usr', 'var']);
});

t.test('it says what it is', { skip }, async t => {
  if ('missing' in image) return;
  t.match(image.config, { Entrypoint: ['/opt/imds-guard/imds-guard'], Cmd: ['check'], Labels: { 'org.opencontainers.image.title': 'imds-guard', 'org.opencontainers.image.licenses': 'Apache-2.0', 'org.opencontainers.image.version': version } });
});

t.test('its bill of materials has every package that gave it a file, with its version', { skip }, async t => {
  const bill = JSON.parse(inside('/bin/cat', '/usr/share/sbom/imds-guard.cdx.json')) as { readonly bomFormat: string; readonly components: readonly { readonly name: string; readonly version: string; readonly purl: string }[] };
  t.equal(bill.bomFormat, 'CycloneDX');
  const named = (type: string): string[] => bill.components.filter(({ purl }) => purl.startsWith(`pkg:${type}/`)).map(({ name }) => name);
  t.same(named('deb').sort(), readdirSync(join(root, 'var/lib/dpkg/status.d')).sort());
  for (const name of ['libc6', 'libstdc++6', 'iptables', 'nftables', 'iproute2']) t.ok(named('deb').includes(name), name);
  for (const name of ['execa', 'yargs', 'pino', 'valibot', 'koffi']) t.ok(named('npm').includes(name), name);
  t.match(named('npm').filter(name => name.startsWith('node-linux-')), [/^node-linux-(x64|arm64)$/], 'Node itself');
  t.notOk(named('npm').some(name => /^(tap|typescript|esbuild|@aws-sdk\/.*)$/.test(name)), 'nothing that only builds or tests, and nothing that is not in the bundles');
  for (const { name, version, purl } of bill.components) if (!/^\S+$/.test(version) || !purl.includes('@')) t.fail(`${name} has no version`);
  for (const name of named('deb')) t.ok(lstatSync(join(root, 'usr/share/doc', name, 'copyright')).size > 0, `the licence of ${name}`);
});
