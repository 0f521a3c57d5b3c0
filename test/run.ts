// Runs groups of tests, a folder each, with tap: `node test/run.ts unit kernel`; no name means all of them.
//
// Ends with one line, `N passed, N failed` or `N passed, N failed, N skipped`. Silence is never success: exit 1 when
// something failed, when nothing ran, and when a group ended without tap's closing line.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { environment, findSandbox, spawnInside, type Sandbox } from './lab/sandbox.ts';

/** All but these get namespaces of their own, whether they need them or not: then no test can touch the machine. */
const inTheOpen = new Set(['unit', 'chart']);
const jobs = (group: string): number => (group === 'unit' ? 2 : 1);
const timeoutSeconds = (group: string): number => ({ unit: 60, watch: 420, image: 420, cluster: 420, systemd: 420, fuzz: Math.max(900, Number(process.env['RUNS'] ?? 0) / 4) })[group] ?? 180;

/** Real programs of Kubernetes that a group runs: test/cluster/binaries.ts. */
const binariesOf: Readonly<Record<string, readonly string[]>> = { cluster: ['etcd', 'kube-apiserver', 'kubectl', 'node-problem-detector'], chart: ['helm', 'etcd', 'kube-apiserver'], image: ['etcd', 'kube-apiserver'] };

const root = fileURLToPath(new URL('..', import.meta.url));
const tap = fileURLToPath(new URL('../node_modules/tap/dist/esm/run.mjs', import.meta.url));

const open: Sandbox = { is: 'none', because: 'not needed' };

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skips: readonly string[];
}

async function main(): Promise<void> {
  process.chdir(root);
  buildTap();
  const known = groups();
  const asked = process.argv.length > 2 ? process.argv.slice(2) : [...known.keys()];
  if (asked.includes('probe')) buildMetadataMock();
  if (asked.includes('systemd')) makeDebian();
  buildBinaries(asked.flatMap(group => binariesOf[group] ?? []));
  const buildFailed = [asked.includes('image') && !buildImage(), ['executable', 'systemd'].some(group => asked.includes(group)) && !buildExecutables()].includes(true);
  const sandbox = asked.every(group => inTheOpen.has(group)) ? open : findSandbox();
  const outcomes: Outcome[] = [];
  for (const group of asked) outcomes.push(await run(group, known, sandbox));
  if (buildFailed) outcomes.push({ passed: 0, failed: 1, skips: [] });
  conclude(outcomes);
}

function groups(): ReadonlyMap<string, readonly string[]> {
  const files = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.test.ts'));
  const names = [...new Set(files.map(name => name.split('/')[0] ?? ''))].filter(name => !name.endsWith('.ts'));
  const quickFirst = names.sort((a, b) => Number(b === 'unit') - Number(a === 'unit') || (a < b ? -1 : 1));
  return new Map(quickFirst.map(name => [name, files.filter(file => file.startsWith(`${name}/`)).map(file => `test/${file}`).sort()]));
}

async function run(group: string, known: ReturnType<typeof groups>, sandbox: Sandbox): Promise<Outcome> {
  const files = known.get(group) ?? [];
  console.log(`${group}: ${files.length} ${files.length === 1 ? 'file' : 'files'}`);
  if (files.length === 0) {
    console.log(`  FAILED there is no test/${group}/*.test.ts; the groups are: ${[...known.keys()].join(' ')}`);
    return { passed: 0, failed: 1, skips: [] };
  }
  if (!inTheOpen.has(group) && sandbox.is === 'none') {
    console.log(`  NOT RUN: no namespaces for packets to run in (${sandbox.because})`);
    return { passed: 0, failed: 0, skips: files.map(file => `${file}: no network namespaces here`) };
  }
  const child = spawnInside(
    inTheOpen.has(group) ? open : sandbox,
    process.execPath,
    [tap, 'run', '--reporter=tap', '--no-color', `--jobs=${jobs(group)}`, `--timeout=${timeoutSeconds(group)}`, ...files],
    ['ignore', 'pipe', 'inherit'],
  );
  const ended = once(child, 'close');
  // Whoever stops the runner stops the tests, which then take their namespaces along.
  const stop = (): void => void child.kill('SIGTERM');
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
  const story = new Story();
  if (child.stdout !== null) for await (const line of createInterface({ input: child.stdout })) story.read(line);
  const [code] = await ended;
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, stop);
  return story.outcome(group, typeof code === 'number' ? code : undefined);
}

/** Reads TAP as it comes, prints a line for each file and each failure in full, and keeps the skips. */
class Story {
  readonly #path: string[] = [];
  readonly #toldIn: number[] = [];
  readonly #skips: string[] = [];
  #closing: ReadonlyMap<string, number> | undefined;
  #details: 'none' | 'passing by' | 'telling' = 'none';
  #detailsEnd = '';
  #told = 0;
  #telling = false;

  read(line: string): void {
    if (this.#details !== 'none') return this.#detail(line);
    const [, indent = '', text = ''] = /^( *)(.*)$/.exec(line) ?? [];
    const depth = indent.length / 4;
    if (text === '---') this.#startDetails(indent);
    else if (text.startsWith('# Subtest: ')) this.#open(depth, text.slice('# Subtest: '.length));
    else if (text.startsWith('# {') && depth === 0) this.#closing = counts(text);
    else if (/^(not )?ok /.test(text)) this.#result(depth, text);
    else if (/^Bail out!/.test(text)) this.#tell(text);
  }

  outcome(group: string, code: number | undefined): Outcome {
    const passed = this.#closing?.get('pass') ?? 0;
    const failed = this.#closing?.get('fail') ?? 0;
    const skipped = (this.#closing?.get('skip') ?? 0) + (this.#closing?.get('todo') ?? 0);
    const skips = [...this.#skips.slice(0, skipped), ...Array<string>(Math.max(0, skipped - this.#skips.length)).fill(`${group}: no reason given`)];
    if (this.#closing === undefined) this.#tell(`${group}: tap ended without its closing line (exit ${code ?? 'by a signal'})`);
    else if (code !== 0 && failed === 0) this.#tell(`${group}: tap counted no failure, and yet its exit was ${code ?? 'by a signal'}`);
    else if (passed + failed + skipped === 0) this.#tell(`${group}: nothing was tested`);
    else return { passed, failed, skips };
    return { passed, failed: failed + 1, skips };
  }

  #open(depth: number, name: string): void {
    this.#path.length = depth;
    this.#path[depth] = name;
    this.#toldIn[depth] = this.#told;
  }

  #result(depth: number, text: string): void {
    const [, not, name = '', directive, reason = ''] = /^(not )?ok \d+(?: - (.*?))?(?: # (SKIP|TODO|time=)(.*?))?(?: \{)?$/.exec(text) ?? [];
    const full = [...this.#path.slice(0, depth), name].join(' > ');
    if (directive === 'SKIP' || directive === 'TODO') {
      this.#skips.push(`${full}: ${reason.trim() || (directive === 'TODO' ? 'to do' : 'no reason given')}`);
    } else if (not !== undefined) {
      // A subtest fails because of what is in it, and that has been told.
      const tellsNothingNew = this.#path[depth] === name && this.#told > (this.#toldIn[depth] ?? 0);
      if (!tellsNothingNew) this.#tell(full);
      this.#telling = !tellsNothingNew;
    }
    if (not === undefined) this.#telling = false;
    if (depth === 0) console.log(`  ${not === undefined ? 'ok    ' : 'FAILED'} ${name}${directive === 'time=' ? ` (${reason})` : ''}`);
  }

  #startDetails(indent: string): void {
    this.#details = this.#telling ? 'telling' : 'passing by';
    this.#detailsEnd = `${indent}...`;
  }

  #detail(line: string): void {
    if (line === this.#detailsEnd) this.#details = 'none';
    else if (this.#details === 'telling') console.log(`      ${line.slice(this.#detailsEnd.length - 3)}`);
  }

  #tell(what: string): void {
    this.#told += 1;
    console.log(`  FAILED ${what}`);
  }
}

/** `# { total: 8, pass: 2, fail: 3, todo: 1, skip: 2 }` */
function counts(text: string): ReadonlyMap<string, number> {
  return new Map([...text.matchAll(/(\w+): (\d+)/g)].map(([, name = '', number]) => [name, Number(number)]));
}

function conclude(outcomes: readonly Outcome[]): void {
  const sum = (of: (outcome: Outcome) => number): number => outcomes.reduce((total, outcome) => total + of(outcome), 0);
  const [passed, failed] = [sum(outcome => outcome.passed), sum(outcome => outcome.failed)];
  const skips = outcomes.flatMap(outcome => outcome.skips);
  for (const skip of skips) console.log(`skipped: ${skip}`);
  if (passed + failed === 0) console.log('nothing ran, which is a failure');
  console.log(`${passed} passed, ${failed} failed${skips.length > 0 ? `, ${skips.length} skipped` : ''}`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}

/**
 * tap generates its test class from its plugins at the first run after an install, and that first run still uses the old
 * one, with the TypeScript plugin that we turn off: "no tests found". So it is generated before (4 s, once).
 */
function buildTap(): void {
  const built = fileURLToPath(new URL('../node_modules/@tapjs/test/test-built/dist/esm/index.js', import.meta.url));
  if (!readFileSync(built, 'utf8').includes('@tapjs/typescript')) return;
  const { status } = spawnSync(process.execPath, [tap, 'build'], { stdio: ['ignore', 'ignore', 'inherit'], env: environment() });
  if (status !== 0) throw new Error('tap build failed');
}

/** In the open, for the tests have no way out. Where it cannot be built, those that need it say so, and are skipped. */
function buildMetadataMock(): void {
  spawnSync(process.execPath, [fileURLToPath(new URL('lab/metadata-mock.ts', import.meta.url))], { stdio: ['ignore', 'ignore', 'inherit'], env: environment() });
}

/** The same, a minute the first time. */
function makeDebian(): void {
  spawnSync(process.execPath, [fileURLToPath(new URL('systemd/debian.ts', import.meta.url))], { stdio: ['ignore', 'ignore', 'inherit'], env: environment() });
}

/** The same, minutes the first time. Where there is no Go the tests are skipped; where the build fails, so do they. */
function buildBinaries(names: readonly string[]): void {
  if (names.length === 0) return;
  spawnSync(process.execPath, [fileURLToPath(new URL('cluster/binaries.ts', import.meta.url)), ...names], { stdio: ['ignore', 'ignore', 'inherit'], env: environment() });
}

/** The same. Where there is nothing to build it with, its tests are skipped; where it does not build, that is a failure. */
function buildImage(): boolean {
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL('image/image.ts', import.meta.url))], { stdio: ['ignore', 'ignore', 'inherit'], env: environment() });
  if (status !== 0) console.log('  FAILED the image does not build; why is above');
  return status === 0;
}

/** The same, for what npm must fetch of the other kind of machine. */
function buildExecutables(): boolean {
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL('executable/executables.ts', import.meta.url))], { stdio: ['ignore', 'ignore', 'inherit'], env: environment() });
  if (status !== 0) console.log('  FAILED the executables were not built; why is above');
  return status === 0;
}

// Last, because a class does not exist before its line.
main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
