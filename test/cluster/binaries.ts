// Real programs of Kubernetes, built from the Go modules beside this file: those of a cluster share one, for Kubernetes pins all its
// parts to one version; the others each have the versions they were made with. Built once, in the open (the tests have no way
// out), into a folder of the user's cache; what a build depends on is in the folder's name, so nothing there is ever stale.
//
//   node test/cluster/binaries.ts etcd kube-apiserver      (also: kubectl helm node-problem-detector)
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Source {
  /** The folder of its go.mod, from here. */
  readonly folder: string;
  /** What the go.mod requires in one version; the program's is the same. */
  readonly module: string;
  readonly package: string;
  /** Where the program keeps its version. Without it clients cannot read a server's. */
  readonly versionIn?: string;
  /** On two cores, with an empty build cache. */
  readonly takes: string;
}

const kubernetes = { folder: '.', module: 'k8s.io/kubernetes', versionIn: 'k8s.io/component-base/version.gitVersion' };

const sources = {
  etcd: { folder: '.', module: 'go.etcd.io/etcd/server/v3', package: 'go.etcd.io/etcd/server/v3', takes: 'half a minute' },
  'kube-apiserver': { ...kubernetes, package: 'k8s.io/kubernetes/cmd/kube-apiserver', takes: 'four minutes' },
  kubectl: { ...kubernetes, package: 'k8s.io/kubernetes/cmd/kubectl', takes: 'half a minute' },
  helm: { folder: 'helm', module: 'helm.sh/helm/v4', package: 'helm.sh/helm/v4/cmd/helm', versionIn: 'helm.sh/helm/v4/internal/version.version', takes: 'two minutes' },
  'node-problem-detector': {
    folder: 'node-problem-detector',
    module: 'k8s.io/node-problem-detector',
    package: 'k8s.io/node-problem-detector/cmd/nodeproblemdetector',
    versionIn: 'k8s.io/node-problem-detector/pkg/version.version',
    takes: 'a minute',
  },
} as const satisfies Readonly<Record<string, Source>>;

export type BinaryName = keyof typeof sources;
export const binaryNames = Object.keys(sources) as readonly BinaryName[];

export type Binary = { readonly program: string } | { readonly missing: string };

/**
 * The path of a program, built if it was not. `missing` says that there is no Go to build it with: then a test skips. Where Go is
 * there and the build fails, it rejects, for then something is wrong here. Of many who want the same at once, one builds.
 */
export async function binary(name: BinaryName): Promise<Binary> {
  const source: Source = sources[name];
  const folder = fileURLToPath(new URL(`${source.folder}/`, import.meta.url));
  const go = goFor(folder);
  if ('missing' in go) return { missing: `${name}: ${go.missing}` };
  const version = source.versionIn === undefined ? '' : ` -X ${source.versionIn}=${requiredVersion(folder, source.module)}`;
  const args = ['-trimpath', '-ldflags', `-s -w${version}`, source.package];
  const program = join(cache(), keyOf(folder, [go.version, ...args]), name);
  if (!existsSync(program)) await build(name, program, folder, args);
  return { program };
}

/** For `t.test(…, { skip })`: why these cannot be had, or false. */
export async function missing(...names: readonly BinaryName[]): Promise<string | false> {
  for (const name of names) {
    const found = await binary(name);
    if ('missing' in found) return found.missing;
  }
  return false;
}

function cache(): string {
  return process.env['IMDS_GUARD_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'imds-guard');
}

function goEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, CGO_ENABLED: '0', PATH: `${process.env['PATH'] ?? ''}:/usr/local/go/bin` };
}

/** Asked in the module's folder: a Go that may fetch a newer one of itself does so for the module, and tells that one's version. */
function goFor(folder: string): { readonly version: string } | { readonly missing: string } {
  const { status, error, stdout, stderr } = spawnSync('go', ['version'], { cwd: folder, env: goEnvironment(), encoding: 'utf8' });
  const wanted = /^go (\d+)\.(\d+)/m.exec(readFileSync(join(folder, 'go.mod'), 'utf8'))?.slice(1).map(Number);
  if (wanted === undefined) throw new Error(`${folder}go.mod names no version of Go`);
  const needed = `Go ${wanted.join('.')} is needed to build it`;
  if (status !== 0) return { missing: `${needed}, and there is none (${error?.message ?? stderr.trim()})` };
  // "go version go1.26.8 linux/amd64"
  const there = /\bgo(\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number);
  return isOlder(there, wanted) ? { missing: `${needed}, and this is ${stdout.trim()}` } : { version: stdout.trim() };
}

function requiredVersion(folder: string, module: string): string {
  const line = readFileSync(join(folder, 'go.mod'), 'utf8').split('\n').find(text => text.trim().replace(/^require /, '').startsWith(`${module} v`));
  const version = line?.split(' ').find(word => word.startsWith('v'));
  if (version === undefined) throw new Error(`${folder}go.mod does not require ${module}`);
  return version;
}

function isOlder([major = 0, minor = 0]: readonly number[] = [], [wantedMajor = 0, wantedMinor = 0]: readonly number[]): boolean {
  return major < wantedMajor || (major === wantedMajor && minor < wantedMinor);
}

function keyOf(folder: string, words: readonly string[]): string {
  const hash = createHash('sha256').update(words.join('\0'));
  for (const file of ['go.mod', 'go.sum']) hash.update(readFileSync(join(folder, file)));
  return hash.digest('hex').slice(0, 16);
}

/** The lock is the kernel's: whoever holds it may be killed. A rename is what makes a program appear, whole. */
const building = `
test ! -e "$PROGRAM" || exit 0
echo "building $NAME from source, once; it takes $TAKES" >&2
trap 'rm -f "$PROGRAM.new"' EXIT
go build -o "$PROGRAM.new" "$@"
mv "$PROGRAM.new" "$PROGRAM"`;

async function build(name: BinaryName, program: string, folder: string, args: readonly string[]): Promise<void> {
  mkdirSync(join(program, '..'), { recursive: true });
  const builder = spawn('flock', [`${program}.lock`, 'sh', '-ec', building, 'sh', ...args], {
    cwd: folder,
    env: { ...goEnvironment(), PROGRAM: program, NAME: name, TAKES: sources[name].takes },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = (await once(builder, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${name} could not be built from ${folder} (exit ${code ?? 'by a signal'}); what Go said is above`);
}

if (import.meta.main) {
  for (const name of process.argv.slice(2)) {
    if (!isBinaryName(name)) throw new Error(`there is no ${name}; there are: ${binaryNames.join(' ')}`);
    const found = await binary(name);
    console.log('missing' in found ? found.missing : found.program);
  }
}

function isBinaryName(name: string): name is BinaryName {
  return Object.hasOwn(sources, name);
}
