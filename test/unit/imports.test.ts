import t from 'tap';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const filesIn = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => join(folder, name)).filter((name) => !name.includes('node_modules/')).sort();

/** Without comments and the text of strings, so that a word in a sentence is not taken for code. */
const codeOf = (file: string): string =>
  readFileSync(join(root, file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*$/gm, '$1')
    .replace(/'(?:[^'\\\n]|\\.)*'/g, "''");

/** What a file imports, static or not, types or not: a package's name, or a path from the root. */
const importsOf = (file: string): string[] =>
  [...readFileSync(join(root, file), 'utf8').matchAll(/(?:^|\s)(?:import|export)\s[^;'"]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|^import\s*['"]([^'"]+)['"]|(?:require|resolve)\(\s*['"]([^'"]+)['"]/gm)]
    .map((found) => found[1] ?? found[2] ?? found[3] ?? found[4] ?? '')
    .map((name) => (name.startsWith('.') ? relative(root, normalize(join(root, dirname(file), name))) : name));

const agent = filesIn('agent');
const core = filesIn('agent/core');
const library = filesIn('agent/node-iptables/src');
const isPure = (file: string): boolean => !/\/src\/(exec|fake|kernel)\//.test(file);
const pure = library.filter(isPure);

t.test('this test sees what it looks for', async (t) => {
  t.ok(core.length > 10 && pure.length > 30, `${core.length} files of core, ${pure.length} of the library`);
  t.ok(importsOf('agent/main.ts').includes('agent/core/from-files.ts') && importsOf('agent/main.ts').includes('agent/commands/apply.ts'), 'static imports and others');
  t.ok(importsOf('agent/node-iptables/src/index.ts').includes('agent/node-iptables/src/model.ts'), 'exports from elsewhere');
  t.match(codeOf('agent/effects/observe-node.ts'), /\basync\b/);
  t.notMatch(codeOf('agent/core/settings.ts'), /An operator/);
});

t.test('core imports the library and core, and nothing else', async (t) => {
  for (const file of core) t.same(importsOf(file).filter((name) => name !== 'node-iptables' && name !== 'node-iptables/netlink' && !name.startsWith('agent/core/')), [], file);
});

t.test('the pure part of the library imports itself, and nothing else', async (t) => {
  for (const file of pure) t.same(importsOf(file).filter((name) => !name.startsWith('agent/node-iptables/src/') || !isPure(name)), [], file);
});

t.test('the fake and the programs know the library, and nothing of the agent', async (t) => {
  for (const file of library) t.same(importsOf(file).filter((name) => name.startsWith('agent/') && !name.startsWith('agent/node-iptables/')), [], file);
});

t.test('what decides takes values and gives values: no promise, no clock, no chance, no process', async (t) => {
  const impure = /\b(async|await|Promise|setTimeout|setInterval|globalThis)\b|\b(process|console)\s*[.[]|\bDate\b(?!\.parse\()|\bMath\.random\b|\bperformance\b|\bcrypto\b|\bfetch\(/;
  for (const file of [...core, ...pure]) {
    // The contract of the effects is written down beside the model; it is a type and runs nothing.
    const code = file.endsWith('src/firewall.ts') ? codeOf(file).replace(/: Promise<[^;]*;/g, ';') : codeOf(file);
    t.equal(impure.exec(code)?.[0], undefined, file);
  }
});

t.test('the library knows iptables and nft, and nothing of IMDS', async (t) => {
  for (const file of library) t.notMatch(readFileSync(join(root, file), 'utf8'), /169\.254|fd00:ec2|imds/i, file);
});

t.test('effects know no commands, commands know no main', async (t) => {
  for (const file of filesIn('agent/effects')) t.same(importsOf(file).filter((name) => /^agent\/(commands|cli|main|reporters)/.test(name)), [], file);
  for (const file of agent) t.notOk(importsOf(file).includes('agent/main.ts'), `${file} does not import main`);
});

t.test('the environment is read in one place', async (t) => {
  const sources = [...agent, ...readdirSync(join(root, 'agent')).filter((name) => name.endsWith('.cjs')).map((name) => `agent/${name}`)];
  const readers = sources.filter((file) => /\bprocess\s*(\.\s*env|\[)/.test(codeOf(file)));
  t.equal(readers.length, 1);
  t.match(readers[0], /^agent\/(main\.ts|start\.cjs)$/);
  t.same(agent.filter((file) => importsOf(file).some((name) => /^(node:)?process$/.test(name))), []);
});

t.test('one file starts programs', async (t) => {
  const starts = agent.filter((file) => importsOf(file).some((name) => name === 'execa' || /^(node:)?child_process$/.test(name)));
  // One starts this program itself, for the daemon, which execa would cost more memory than all else it does; and one a credential plugin.
  t.same(starts, ['agent/effects/kube-exec-plugin.ts', 'agent/effects/look-process.ts', 'agent/node-iptables/src/exec/run.ts']);
});
