// Makes dist/: the program's files, the Node they were made for, and a launcher that starts the one with the other whatever the
// caller's environment says.
//
//   node agent/build.mjs [ARCH [FOLDER]]   x64 or arm64, which need not be this machine's; dist, or another folder
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleInto, makeCaches } from './bundle.mjs';
import { nativePackages } from './native-packages.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [, , arch = process.arch, folder = 'dist'] = process.argv;
const natives = nativePackages(root, arch);
const finished = resolve(root, folder);
// Built beside and swapped in at the end: a build that fails leaves the last good one.
const dist = `${finished}.new`;
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

const names = await bundleInto(dist, { root, arch, natives });
const node = join(dist, 'node');
copyFileSync(join(natives, `node-linux-${arch}/bin/node`), node);
writeFileSync(
  join(dist, 'imds-guard'),
  `#!/bin/sh
# Starts the bundle with the Node it was built for. Nothing from the caller's environment may load code into it.
# Without a link to follow, no process is started to find out where this is.
if test -h "$0"; then self=$(readlink -f -- "$0"); else self=$0; fi
case $self in */*) here=\${self%/*} ;; *) here=. ;; esac
unset NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_USE_SYSTEM_CA NODE_TLS_REJECT_UNAUTHORIZED NODE_REPL_EXTERNAL_MODULE
unset NODE_V8_COVERAGE NODE_COMPILE_CACHE OPENSSL_CONF OPENSSL_MODULES
# What a daemon that idles for months has no use for: 16 MiB of young objects before it looks which are dead, and a compiler
# that makes code of every request (15 MiB after a thousand).
case "\${1-}" in watch) exec "$here/node" --max-semi-space-size=1 --no-maglev "$here/start.cjs" "$@" ;; esac
exec "$here/node" "$here/start.cjs" "$@"
`,
);
chmodSync(join(dist, 'imds-guard'), 0o755);
copyFileSync(join(root, 'agent/kubectl-imds_guard'), join(dist, 'kubectl-imds_guard'));

if (arch === process.arch) makeCaches(dist, names, node);
else console.error(`built for ${arch} on ${process.arch}: without V8's compiled code, so each start there compiles (some 40 ms)`);

rmSync(finished, { recursive: true, force: true });
renameSync(dist, finished);
