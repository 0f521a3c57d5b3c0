// Runs imds-guard.cjs with the code that V8 made of it at build time (NAME.cjs.cache), so that a health check does not
// spend its time compiling. A cache that does not fit (another Node) is passed over by V8 itself. Nothing is written here
// but by the build, which starts this file with IMDS_GUARD_MAKE_CACHE set to a list of command lines to warm up with.
//
// In the single executable this is what Node runs, and the other files are parts of it: nothing beside it is read.
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { getRawAsset, isSea } = require('node:sea');
const { Script } = require('node:vm');

const isExecutable = isSea();
const making = isExecutable ? undefined : process.env.IMDS_GUARD_MAKE_CACHE;
/** A folder that cannot be, for packages that look for others beside them. */
const NOWHERE = '/proc/self/exe';
const directory = isExecutable ? NOWHERE : __dirname;
const read = (name) => (isExecutable ? Buffer.from(getRawAsset(name)) : readFileSync(`${directory}/${name}`));
const loaded = new Map();

function load(name) {
  const known = loaded.get(name);
  if (known) return known.exports;
  // V8 keeps the name in what it made, and that is to be the same wherever it is built.
  const filename = `${making === undefined ? directory : NOWHERE}/${name}`;
  // The build writes ASCII, but in comments.
  const source = `(function (exports, require, module, __filename, __dirname) { ${read(name).latin1Slice()}\n})`;
  const script = new Script(source, { filename, cachedData: cacheOf(name) });
  const module = { exports: {}, script };
  loaded.set(name, module);
  script.runInThisContext()(module.exports, requireFrom, module, filename, directory);
  return module.exports;
}

function requireFrom(name) {
  if (name.startsWith('./')) return load(name.slice(2));
  if (isExecutable && name === 'node:https') trustNobodyElse(process.env);
  return require(name);
}

function cacheOf(name) {
  try {
    return read(`${name}.cache`);
  } catch {
    return undefined;
  }
}

const program = {
  // The executable may be moved, replaced or deleted while it runs: this link leads to what runs, whatever lies where it was.
  self: isExecutable ? ['/proc/self/exe'] : [process.execPath, __filename],
  billOfMaterials: () => read('packages.json').toString(),
};

async function makeCaches({ commandLines, bundles }) {
  const { main } = load('imds-guard.cjs');
  const write = process.stdout.write;
  process.stdout.write = () => true;
  for (const commandLine of commandLines) await main(commandLine, {}, program);
  process.stdout.write = write;
  for (const bundle of bundles) load(bundle);
  // A process started once, so that the code that starts them is in the cache too.
  await load('execa.cjs').execa(process.execPath, ['--version'], { reject: false, input: '', extendEnv: false, env: {}, timeout: 10_000 });
  for (const [name, { script }] of loaded) writeFileSync(`${directory}/${name}.cache`, script.createCachedData());
}

/** What the launcher of dist/ does with its Node's environment. NODE_OPTIONS is not read here (execArgvExtension), nor NODE_PATH. */
function trustNobodyElse(env) {
  // Read at each connection.
  delete env.NODE_TLS_REJECT_UNAUTHORIZED;
  if (env.NODE_EXTRA_CA_CERTS === undefined && env.NODE_USE_SYSTEM_CA === undefined) return;
  const { getCACertificates, setDefaultCACertificates } = require('node:tls');
  setDefaultCACertificates(getCACertificates('bundled'));
}

/** The launcher's flags for a daemon, as far as V8 takes them once it runs: its young space stays as small as it begins. */
function staySmall() {
  const { setFlagsFromString } = require('node:v8');
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--no-maglev');
}

function run(argv) {
  if (isExecutable && process.env.NODE_V8_COVERAGE !== undefined) require('node:v8').stopCoverage();
  const { main } = load('imds-guard.cjs');
  // After loading: with other flags V8 takes none of the code that it made.
  if (isExecutable && argv[0] === 'watch') staySmall();
  return main(argv, process.env, program);
}

const ran = making === undefined ? run(process.argv.slice(2)) : makeCaches(JSON.parse(making)).then(() => 0);
void ran.then((code) => {
  process.exitCode = code;
});
