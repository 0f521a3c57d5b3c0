// Makes dist/: one CommonJS bundle (ESM costs a privileged process 30 ms and undici, Node issue 59686), the Node it was
// made for, and a launcher that starts the one with the other whatever the caller's environment says.
//
//   node agent/build.mjs [ARCH [FOLDER]]   x64 or arm64, which need not be this machine's; dist, or another folder
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { bundledPackages } from './bundled-packages.mjs';
import { nativePackages } from './native-packages.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
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

const [, , arch = process.arch, folder = 'dist'] = process.argv;
const natives = nativePackages(root, arch);
const finished = resolve(root, folder);
// Built beside and swapped in at the end: a build that fails leaves the last good one.
const dist = `${finished}.new`;
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

/** Options that all bundles share. */
const shared = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  charset: 'ascii',
  legalComments: 'none',
  define: { 'import.meta.url': '__bundleUrl' },
  banner: { js: "const __bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
  // import() of a file beside becomes require(): no second module system at run time.
  supported: { 'dynamic-import': false },
  logLevel: 'warning',
  metafile: true,
  absWorkingDir: root,
};
/** What esbuild tells of each bundle: the files in it. */
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

contents.push(await build({ ...shared, entryPoints: [join(root, 'agent/main.ts')], outfile: join(dist, 'imds-guard.cjs'), plugins: [aside] }));
for (const name of onDemand) {
  if (name === 'koffi') {
    // A native library for each kind of machine, of which one is needed, and none of the code that looks for it.
    copyFileSync(join(natives, `@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`), join(dist, 'koffi.node'));
    writeFileSync(join(dist, 'koffi.cjs'), "process.dlopen(module, `${__dirname}/koffi.node`);\n");
    continue;
  }
  const { default: main } = await import(name);
  const source = `export * from '${name}';${main === undefined ? '' : ` export { default } from '${name}';`}`;
  // For an importer of ESM kind, `default` of a CommonJS file is all of module.exports.
  const footer = typeof main === 'function' ? { footer: { js: 'module.exports = Object.assign(module.exports.default, module.exports);' } } : {};
  const compact = { minifySyntax: true, minifyWhitespace: true, lineLimit: 160 };
  contents.push(await build({ ...shared, ...compact, ...footer, stdin: { contents: source, resolveDir: root }, outfile: join(dist, `${name}.cjs`) }));
}

// The code that V8 made of each bundle, for the very Node that goes along: start.cjs loads it instead of compiling again.
const start = join(dist, 'start.cjs');
copyFileSync(join(root, 'agent/start.cjs'), start);
const node = join(dist, 'node');
copyFileSync(join(natives, `node-linux-${arch}/bin/node`), node);
writeFileSync(join(dist, 'packages.json'), bundledPackages(root, contents, [`node-linux-${arch}`, 'koffi', `@koromix/koffi-linux-${arch}`]));
writeFileSync(
  join(dist, 'imds-guard'),
  `#!/bin/sh
# Starts the bundle with the Node it was built for. Nothing from the caller's environment may load code into it.
# Without a link to follow, no process is started to find out where this is.
if test -h "$0"; then self=$(readlink -f -- "$0"); else self=$0; fi
case $self in */*) here=\${self%/*} ;; *) here=. ;; esac
unset NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_REPL_EXTERNAL_MODULE NODE_V8_COVERAGE
# What a daemon that idles for months has no use for: 16 MiB of young objects before it looks which are dead, and a compiler
# that makes code of every request (15 MiB after a thousand).
case "\${1-}" in watch) exec "$here/node" --max-semi-space-size=1 --no-maglev "$here/start.cjs" "$@" ;; esac
exec "$here/node" "$here/start.cjs" "$@"
`,
);
chmodSync(join(dist, 'imds-guard'), 0o755);
copyFileSync(join(root, 'agent/kubectl-imds_guard'), join(dist, 'kubectl-imds_guard'));

if (arch === process.arch) makeCaches();
else console.error(`built for ${arch} on ${process.arch}: without V8's compiled code, so each start there compiles (some 40 ms)`);

rmSync(finished, { recursive: true, force: true });
renameSync(dist, finished);

function makeCaches() {
  const sample = join(dist, 'sample.txt');
  writeFileSync(sample, SAMPLE);
  const from = ['--from', sample, '--from-backend', 'nft'];
  const commandLines = [['rules'], ['check', ...from], ['check', ...from, '--output', 'json'], ['check', ...from, '--output', 'npd'], ['explain', ...from]];
  const making = JSON.stringify({ commandLines, bundles: [...onDemand].map((name) => `${name}.cjs`) });
  execFileSync(node, [start], { env: { IMDS_GUARD_MAKE_CACHE: making }, stdio: 'inherit' });
  rmSync(sample);
}
