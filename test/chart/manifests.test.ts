// The manifests that are checked in are what the chart says. `make manifests` writes them.
import t from 'tap';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { manifest, manifests, noHelm } from './helm.ts';

for (const name of Object.keys(manifests) as (keyof typeof manifests)[]) {
  const file = fileURLToPath(new URL(`../../daemonset/${name}`, import.meta.url));
  t.test(`daemonset/${name}`, { skip: noHelm }, async (t) => {
    const rendered = manifest(name);
    if (process.env['WRITE_MANIFESTS']) writeFileSync(file, rendered);
    t.equal(existsSync(file) ? readFileSync(file, 'utf8') : '', rendered, 'make manifests');
  });
}
