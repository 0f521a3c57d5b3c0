// Runs imds-guard.cjs with the code that V8 made of it at build time (NAME.cjs.cache), so that a health check does not
// spend its time compiling. A cache that does not fit (another Node) is passed over by V8 itself. Nothing is written here
// but by the build, which starts this file with IMDS_GUARD_MAKE_CACHE set to a list of command lines to warm up with.
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { Script } = require('node:vm');

const loaded = new Map();

function load(name) {
  const known = loaded.get(name);
  if (known) return known.exports;
  const filename = `${__dirname}/${name}`;
  const source = `(function (exports, require, module, __filename, __dirname) { ${readFileSync(filename, 'utf8')}\n})`;
  const script = new Script(source, { filename, cachedData: cacheOf(filename) });
  const module = { exports: {}, script, filename };
  loaded.set(name, module);
  script.runInThisContext()(module.exports, requireFrom, module, filename, __dirname);
  return module.exports;
}

const requireFrom = (name) => (name.startsWith('./') ? load(name.slice(2)) : require(name));

function cacheOf(filename) {
  try {
    return readFileSync(`${filename}.cache`);
  } catch {
    return undefined;
  }
}

async function makeCaches({ commandLines, bundles }) {
  const { main } = load('imds-guard.cjs');
  const write = process.stdout.write;
  process.stdout.write = () => true;
  for (const commandLine of commandLines) await main(commandLine, {});
  process.stdout.write = write;
  for (const bundle of bundles) load(bundle);
  // A process started once, so that the code that starts them is in the cache too.
  await load('execa.cjs').execa(process.execPath, ['--version'], { reject: false, input: '', extendEnv: false, env: {}, timeout: 10_000 });
  for (const { script, filename } of loaded.values()) writeFileSync(`${filename}.cache`, script.createCachedData());
}

const making = process.env.IMDS_GUARD_MAKE_CACHE;
const run = making === undefined ? load('imds-guard.cjs').main(process.argv.slice(2), process.env) : makeCaches(JSON.parse(making)).then(() => 0);
void run.then((code) => {
  process.exitCode = code;
});
