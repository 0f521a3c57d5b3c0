// The program as files: CommonJS bundles (ESM costs a privileged process 30 ms and undici, Node issue 59686) and what they read. The
// folder dist/ and the single executable are both made of them.
import { execFileSync } from 'node:child_process';
import { copyFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { bundledPackages } from './bundled-packages.mjs';

/** A ruleset with something of everything, to warm up with. */
const SAMPLE = `*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A POSTROUTING -d 169.254.169.254/32 -o vlan+ -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:cali-FORWARD - [0:0]
-A FORWARD -m comment --comment "cali:x" -j cali-FORWARD
-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP
-A cali-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-FORWARD -s 10.0.0.0/8 -p tcp -m tcp --dport 443 -j MARK --set-xmark 0x10000/0x10000
-A cali-FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
COMMIT
`;


/**
 * Writes the program's files into a folder: the same bytes for the same checkout, wherever it is.
 *
 * @param natives the folder of packages for `arch`
 * @returns the names of those that start.cjs loads
 */
export async function bundleInto(folder, { root, arch, natives }) {
  const shared = sharedOptions(root);
  // What esbuild tells of each bundle: the files in it.
  const contents = [];
  // A package that is only imported where it is needed (`await import('yaml')`) gets a file of its own beside the bundle:
  // merely to parse what a run never calls costs as much as Node's own start.
  const onDemand = new Set();
  const aside = {
    name: 'packages imported on demand',
    setup: (bundle) =>
      bundle.onResolve({ filter: /^[a-z]/ }, ({ path, kind }) => {
        if (kind !== 'dynamic-import') return undefined;
        onDemand.add(path);
        return { path: `./${path}.cjs`, external: true };
      }),
  };

  contents.push(await build({ ...shared, entryPoints: [join(root, 'agent/main.ts')], outfile: join(folder, 'imds-guard.cjs'), plugins: [aside] }));
  const names = [...onDemand].sort();
  for (const name of names) {
    if (name === 'koffi') {
      // A native library for each kind of machine, of which one is needed, and none of the code that looks for it.
      copyFileSync(join(natives, `@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`), join(folder, 'koffi.node'));
      writeFileSync(join(folder, 'koffi.cjs'), "process.dlopen(module, `${__dirname}/koffi.node`);\n");
      continue;
    }
    const { default: main } = await import(name);
    const source = `export * from '${name}';${main === undefined ? '' : ` export { default } from '${name}';`}`;
    // For an importer of ESM kind, `default` of a CommonJS file is all of module.exports.
    const footer = typeof main === 'function' ? { footer: { js: 'module.exports = Object.assign(module.exports.default, module.exports);' } } : {};
    const compact = { minifySyntax: true, minifyWhitespace: true, lineLimit: 160 };
    contents.push(await build({ ...shared, ...compact, ...footer, stdin: { contents: source, resolveDir: root }, outfile: join(folder, `${name}.cjs`) }));
  }
  copyFileSync(join(root, 'agent/start.cjs'), join(folder, 'start.cjs'));
  writeFileSync(join(folder, 'packages.json'), bundledPackages(root, contents, [`node-linux-${arch}`, 'koffi', `@koromix/koffi-linux-${arch}`]));
  return ['imds-guard', ...names].map((name) => `${name}.cjs`);
}

/** Options that all bundles share. */
const sharedOptions = (root) => ({
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  charset: 'ascii',
  legalComments: 'none',
  define: { 'import.meta.url': '__bundleUrl', __commit: JSON.stringify(commitOf(root)) },
  banner: { js: "const __bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
  // import() of a file beside becomes require(): no second module system at run time.
  supported: { 'dynamic-import': false },
  logLevel: 'warning',
  metafile: true,
  absWorkingDir: root,
});

/** What is checked out, with `-dirty` where what is built of is not what was committed; `unknown` where git cannot tell. */
function commitOf(root) {
  const git = (...args) => execFileSync('git', ['--no-optional-locks', '-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    // Sources that lie in somebody else's checkout have no commit of their own.
    if (realpathSync(git('rev-parse', '--show-toplevel')) !== realpathSync(root)) return 'unknown';
    return `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '--', 'agent', 'package.json', 'package-lock.json') === '' ? '' : '-dirty'}`;
  } catch {
    return 'unknown';
  }
}

/**
 * Writes the code that V8 made of each file beside it, for the very Node that goes along: start.cjs loads it instead of compiling
 * again. With --predictable V8 makes the same bytes each time, where all else is the same too, down to the kinds of its standard
 * streams; with any other flag it would refuse them when it runs without.
 */
export function makeCaches(folder, names, node) {
  const sample = join(folder, 'sample.txt');
  writeFileSync(sample, SAMPLE);
  const from = ['--from', sample, '--from-backend', 'nft'];
  const commandLines = [['rules'], ['check', ...from], ['check', ...from, '--output', 'json'], ['check', ...from, '--output', 'npd'], ['explain', ...from]];
  // Node hands this one down by itself, and code that is to be counted is other code.
  const env = { IMDS_GUARD_MAKE_CACHE: JSON.stringify({ commandLines, bundles: names }), NODE_V8_COVERAGE: undefined };
  execFileSync(node, ['--predictable', join(folder, 'start.cjs')], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  rmSync(sample);
}
