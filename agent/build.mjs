// Makes dist/: one CommonJS bundle (ESM costs a privileged process 30 ms and undici, Node issue 59686), the Node it was
// made for, and a launcher that starts the one with the other whatever the caller's environment says.
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const finished = join(root, 'dist');
// Built beside and swapped in at the end: a build that fails leaves the last good one.
const dist = join(root, 'dist.new');
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

await build({
  entryPoints: [join(root, 'agent/main.ts')],
  outfile: join(dist, 'imds-guard.cjs'),
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  charset: 'ascii',
  legalComments: 'none',
  define: { 'import.meta.url': '__bundleUrl' },
  banner: { js: "const __bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
  logLevel: 'warning',
});

copyFileSync(join(root, `node_modules/node-linux-${process.arch}/bin/node`), join(dist, 'node'));
writeFileSync(
  join(dist, 'imds-guard'),
  `#!/bin/sh
# Starts the bundle with the Node it was built for. Nothing from the caller's environment may load code into it.
here=$(dirname -- "$(readlink -f -- "$0")")
unset NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_REPL_EXTERNAL_MODULE NODE_V8_COVERAGE
exec "$here/node" "$here/imds-guard.cjs" "$@"
`,
);
chmodSync(join(dist, 'imds-guard'), 0o755);

rmSync(finished, { recursive: true, force: true });
renameSync(dist, finished);
