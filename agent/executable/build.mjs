// Makes the single executables: Node with the program's files in it (SEA), for machines where nothing else is to be installed.
//
//   node agent/executable/build.mjs [FOLDER]   imds-guard-linux-x64 and -arm64, the bill of materials of each, SHA256SUMS
//
// The same checkout gives the same bytes. V8's compiled code can be made on a machine of the same kind only: an executable that was
// built on another starts some 20 ms later, and has another hash.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'postject';
import { bundleInto, makeCaches } from '../bundle.mjs';
import { nativePackages } from '../native-packages.mjs';
import { stripElf } from './strip-elf.mjs';
import { FUSE, sha256, verify } from './verify.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const finished = resolve(root, process.argv[2] ?? 'dist');
mkdirSync(finished, { recursive: true });
// Beside the finished ones, which are replaced when both are there.
const fresh = mkdtempSync(join(finished, '.executable-'));
try {
  for (const arch of ['x64', 'arm64']) await makeExecutable(arch);
  const names = readdirSync(fresh).sort();
  writeFileSync(join(fresh, 'SHA256SUMS'), names.map((name) => `${sha256(readFileSync(join(fresh, name)))}  ${name}\n`).join(''));
  for (const name of readdirSync(fresh)) renameSync(join(fresh, name), join(finished, name));
} finally {
  rmSync(fresh, { recursive: true });
}

async function makeExecutable(arch) {
  const parts = mkdtempSync(join(finished, '.parts-'));
  try {
    const natives = nativePackages(root, arch);
    const names = await bundleInto(parts, { root, arch, natives });
    copyFileSync(join(root, 'agent/executable/koffi.cjs'), join(parts, 'koffi.cjs'));
    // Of the very version that is to run them: the formats of blob and caches are its own.
    const ownNode = join(nativePackages(root, process.arch), `node-linux-${process.arch}/bin/node`);
    // What stands for koffi runs in the executable only.
    if (arch === process.arch) makeCaches(parts, names.filter((name) => name !== 'koffi.cjs'), ownNode);
    const blob = makeBlob(parts, ownNode);
    const executable = join(fresh, `imds-guard-linux-${arch}`);
    writeFileSync(executable, stripElf(readFileSync(join(natives, `node-linux-${arch}/bin/node`))), { mode: 0o755 });
    await quietly(() => inject(executable, 'NODE_SEA_BLOB', blob, { sentinelFuse: FUSE }));
    copyFileSync(join(parts, 'packages.json'), `${executable}.packages.json`);
    verify(executable, arch, blob);
  } finally {
    rmSync(parts, { recursive: true });
  }
}

/** What Node finds in itself: start.cjs, and everything else by its name. */
function makeBlob(parts, node) {
  const names = readdirSync(parts).filter((name) => name !== 'start.cjs').sort();
  const config = {
    // Names and not paths: they are in the blob.
    main: 'start.cjs',
    output: 'imds-guard.blob',
    disableExperimentalSEAWarning: true,
    useCodeCache: false,
    // NODE_OPTIONS and --node-options are the caller's, and this is root.
    execArgv: [],
    execArgvExtension: 'none',
    assets: Object.fromEntries(names.map((name) => [name, name])),
  };
  writeFileSync(join(parts, 'sea.json'), JSON.stringify(config));
  execFileSync(node, ['--experimental-sea-config', 'sea.json'], { cwd: parts, env: {}, stdio: 'pipe' });
  return readFileSync(join(parts, 'imds-guard.blob'));
}

/** postject warns of a section name that it cannot shorten, each time. */
async function quietly(work) {
  const { warn, log, error } = console;
  Object.assign(console, { warn: () => {}, log: () => {}, error: () => {} });
  try {
    await work();
  } finally {
    Object.assign(console, { warn, log, error });
  }
}
