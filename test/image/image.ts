// The image, built as its Dockerfile says, without a registry: a Debian of our own making lies under the names that FROM asks
// for. Built in the open (the tests have no way out), into a folder of the user's cache:
//
//   node test/image/image.ts
//
// Takes root, and buildah, runc and debootstrap, which are installed where there is apt-get.
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Image {
  /** Its files, as they lie in the image: owners and modes too. */
  readonly root: string;
  readonly config: ImageConfig;
  /** dist/ for the other kind of machine, as far as it can be made on this one. */
  readonly otherDist: string;
}
export interface ImageConfig {
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly Env: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
}

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const cache = join(process.env['IMDS_GUARD_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'imds-guard'), 'image');
const SUITE = 'trixie';
const BASES = { debian: 'docker.io/library/debian:trixie-slim', node: 'docker.io/library/node:24-trixie-slim' } as const;
export const OTHER_ARCH = process.arch === 'arm64' ? 'x64' : 'arm64';
const PROGRAMS = ['buildah', 'runc', 'debootstrap'] as const;

/** The image of this checkout, or why there is none: then a test skips, loudly. */
export function builtImage(): Image | { readonly missing: string } {
  const place = placeOf();
  if (!existsSync(place)) return { missing: whyNot() ?? 'the image of this checkout was not built: node test/image/image.ts' };
  return { root: join(place, 'root'), otherDist: join(place, `dist.${OTHER_ARCH}`), config: JSON.parse(readFileSync(join(place, 'config.json'), 'utf8')) as ImageConfig };
}

/** What the image is made of: whatever the build may copy. */
function placeOf(): string {
  const hash = createHash('sha256');
  const sources = ['Dockerfile', 'package.json', 'package-lock.json', '.npmrc', 'tsconfig.json', 'daemonset/image', 'agent'];
  for (const name of sources.flatMap(filesUnder).sort()) hash.update(`${name}\0`).update(readFileSync(join(checkout, name))).update('\0');
  return join(cache, hash.digest('hex').slice(0, 16));
}

function filesUnder(name: string): string[] {
  if (!statSync(join(checkout, name)).isDirectory()) return [name];
  return readdirSync(join(checkout, name), { recursive: true, encoding: 'utf8' })
    .map(file => join(name, file))
    .filter(file => !file.endsWith('.md') && !file.includes('node_modules/') && statSync(join(checkout, file)).isFile());
}

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'an image is built and run as root only';
  const absent = PROGRAMS.filter(program => !has(program));
  return absent.length === 0 ? undefined : `there is no ${absent.join(', no ')}`;
}

const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

function build(): void {
  const place = placeOf();
  if (existsSync(place)) return;
  installPrograms();
  const because = whyNot();
  if (because !== undefined) return console.error(`NO IMAGE: ${because}`);
  mkdirSync(cache, { recursive: true });
  haveBases();
  buildah('bud', '--isolation', 'chroot', '--pull-never', '--layers', '--tag', 'imds-guard:test', checkout);
  const fresh = mkdtempSync(join(cache, 'new-'));
  const container = buildah('from', '--pull-never', 'imds-guard:test');
  try {
    const mounted = buildah('mount', container);
    must('cp', ['-a', mounted, join(fresh, 'root')]);
    const { OCIv1 } = JSON.parse(buildah('inspect', '--type', 'image', 'imds-guard:test')) as { OCIv1: { config: ImageConfig } };
    writeFileSync(join(fresh, 'config.json'), JSON.stringify(OCIv1.config));
  } finally {
    buildah('rm', container);
  }
  must(process.execPath, [join(checkout, 'agent/build.mjs'), OTHER_ARCH, join(fresh, `dist.${OTHER_ARCH}`)]);
  forgetOlder();
  renameSync(fresh, place);
}

/** An image for each change of the agent: only the last ones are worth their 130 MB. */
function forgetOlder(): void {
  const images = readdirSync(cache).filter(name => /^[0-9a-f]{16}$/.test(name)).map(name => ({ name, at: statSync(join(cache, name)).mtimeMs }));
  for (const { name } of images.sort((one, other) => other.at - one.at).slice(KEPT - 1)) rmSync(join(cache, name), { recursive: true });
  // Each build adds layers of some 100 MB. Without a name are also those that make the next build short, so not every time.
  if (buildah('images', '--all', '--quiet').split('\n').length > MOST_LAYERS) buildah('rmi', '--prune', '--force');
}
const KEPT = 3;
const MOST_LAYERS = 80;

function installPrograms(): void {
  if (process.getuid?.() !== 0 || !has('apt-get') || PROGRAMS.every(has)) return;
  console.error(`installing ${PROGRAMS.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  spawnSync('apt-get', ['update', '-qq'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  // Debian's minimum of seccomp and storage settings comes along as a recommendation of buildah's.
  spawnSync('apt-get', ['install', '-y', '-qq', ...PROGRAMS], { env, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** A minimal Debian from the mirror that this machine itself is installed from, once with Node and npm, once without. */
function haveBases(): void {
  const there = buildah('images', '--format', '{{.Name}}:{{.Tag}}').split('\n');
  if (Object.values(BASES).every(name => there.includes(name))) return;
  console.error('making a Debian for the image to stand on, once: a minute');
  const root = mkdtempSync(join(cache, 'base-'));
  try {
    must('debootstrap', ['--variant=minbase', SUITE, root, mirror()]);
    rmSync(join(root, 'var/cache/apt/archives'), { recursive: true, force: true });
    // The machine's own certificates: a registry's mirror may have one that Debian does not know.
    if (existsSync('/etc/ssl/certs/ca-certificates.crt')) {
      mkdirSync(join(root, 'etc/ssl/certs'), { recursive: true });
      copyFileSync('/etc/ssl/certs/ca-certificates.crt', join(root, 'etc/ssl/certs/ca-certificates.crt'));
    }
    asImage(root, BASES.debian, []);
    const npm = dirname(dirname(realpathSync(must('sh', ['-c', 'command -v npm']))));
    cpSync(npm, join(root, 'usr/local/lib/node_modules/npm'), { recursive: true });
    copyFileSync(process.execPath, join(root, 'usr/local/bin/node'));
    must('ln', ['-s', '../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm')]);
    asImage(root, BASES.node, ['--env', `npm_config_registry=${must('npm', ['config', 'get', 'registry'])}`, '--env', 'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt']);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function asImage(root: string, name: string, config: readonly string[]): void {
  const container = buildah('from', 'scratch');
  must('tar', ['-C', root, '-cf', `${root}.tar`, '.']);
  buildah('add', '--quiet', container, `${root}.tar`, '/');
  rmSync(`${root}.tar`);
  buildah('config', '--env', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...config, container);
  buildah('commit', '--quiet', '--rm', container, name);
}

/** The first archive of Debian proper in apt's sources, in either of their two forms. */
export function mirror(): string {
  const texts = ['/etc/apt/sources.list', ...folder('/etc/apt/sources.list.d')].filter(existsSync).map(file => readFileSync(file, 'utf8'));
  const found = texts.map(text => /^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+\/debian\/?)(?:\s|$)/m.exec(text)?.[1]).find(uri => uri !== undefined);
  if (found === undefined) throw new Error('apt has no archive of Debian in its sources, so there is nothing to make a base of');
  return found;
}

const folder = (path: string): string[] => (existsSync(path) ? readdirSync(path).map(name => join(path, name)) : []);

/** Images and layers of our own, apart from those of whoever else uses buildah here. */
const buildah = (...args: readonly string[]): string => must('buildah', ['--root', join(cache, 'storage'), '--runroot', join(cache, 'run'), ...args]);

function must(file: string, args: readonly string[]): string {
  const ran: SpawnSyncReturns<string> = spawnSync(file, args, { encoding: 'utf8', env: { ...process.env, BUILDAH_ISOLATION: 'chroot', LC_ALL: 'C' }, maxBuffer: 64 * 2 ** 20 });
  if (ran.status !== 0) throw new Error(`${file} ${args.join(' ')}: ${ran.error?.message ?? `exit ${ran.status}`}\n${ran.stdout.slice(-3000)}\n${ran.stderr.slice(-3000)}`);
  return ran.stdout.trim();
}

if (import.meta.main) {
  build();
  const image = builtImage();
  console.error('missing' in image ? `NO IMAGE: ${image.missing}` : image.root);
}
