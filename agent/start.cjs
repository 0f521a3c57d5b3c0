// Runs imds-guard.cjs with the code that V8 made of it at build time (NAME.cjs.cache), so that a health check does not
// spend its time compiling. A cache that does not fit (another Node) is passed over by V8 itself; nothing is ever written
// here but by the build, which starts this file with IMDS_GUARD_MAKE_CACHE set to the names of the other bundles.
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

const making = process.env.IMDS_GUARD_MAKE_CACHE;
if (making === undefined) {
  load('imds-guard.cjs');
} else {
  // What was compiled while it ran goes into the cache, so each is run a little first.
  process.argv.push('rules');
  delete process.env.IMDS_GUARD_MAKE_CACHE;
  const write = process.stdout.write;
  process.stdout.write = () => true;
  load('imds-guard.cjs');
  if (making !== 'none') for (const name of making.split(' ')) load(`${name}.cjs`);
  process.once('beforeExit', () => {
    process.stdout.write = write;
    for (const { script, filename } of loaded.values()) writeFileSync(`${filename}.cache`, script.createCachedData());
  });
}
