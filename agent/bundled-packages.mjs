// Which npm packages a build holds, for the bill of materials: by the files that are in the bundles, not by what was installed.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * JSON: our version, and each package with its version, licence and hash from the lock file.
 *
 * @param builds what esbuild said of each bundle (metafile)
 * @param others packages of which files were copied
 * @throws for a package that the lock file does not know
 */
export function bundledPackages(root, builds, others) {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const places = new Set(others.map((name) => `node_modules/${name}`));
  for (const { metafile } of builds) for (const file of Object.keys(metafile.inputs)) if (file.includes('node_modules/')) places.add(placeOf(file));
  const packages = [...places].sort().map((place) => {
    if (!lock[place]) throw new Error(`${place} is in a bundle and not in package-lock.json`);
    const { version, license, integrity } = lock[place];
    return { name: place.replace(/^.*node_modules\//, ''), version, license, integrity };
  });
  return `${JSON.stringify({ version: lock[''].version, packages }, null, 1)}\n`;
}

/** `node_modules/a/node_modules/@b/c/lib/d.js` is in `node_modules/a/node_modules/@b/c`. */
const placeOf = (file) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(file)[0].replace(/^.*?(?=node_modules\/)/, '');
