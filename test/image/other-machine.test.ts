// The other kind of machine, from this one: what can be made of it here, and what cannot.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { OTHER_ARCH, builtImage } from './image.ts';

const image = builtImage();

/** e_machine of an ELF header. */
const MACHINE = { x64: 0x3e, arm64: 0xb7 } as const;
const machineOf = (file: string): number => {
  const head = readFileSync(file).subarray(0, 20);
  return head.toString('latin1', 0, 4) === '\x7fELF' ? head.readUInt16LE(18) : 0;
};

t.test(`dist for ${OTHER_ARCH} holds that machine's Node and library, and no code that V8 compiled for this one`, { skip: 'missing' in image ? image.missing : false }, async t => {
  if ('missing' in image) return;
  const dist = image.otherDist;
  for (const file of ['node', 'koffi.node']) t.equal(machineOf(join(dist, file)), MACHINE[OTHER_ARCH], file);
  t.same(readdirSync(dist).filter(name => name.endsWith('.cache')), []);
  // The JavaScript is the same: this machine's Node runs it, without caches, as the other's will.
  const { status, stdout } = spawnSync(process.execPath, [join(dist, 'start.cjs'), 'rules'], { encoding: 'utf8', env: {} });
  t.match({ status, stdout }, { status: 0, stdout: /-A FORWARD -d 169\.254\.169\.254\/32/ });
  const { packages } = JSON.parse(readFileSync(join(dist, 'packages.json'), 'utf8')) as { readonly packages: readonly { readonly name: string }[] };
  t.ok(packages.some(({ name }) => name === `node-linux-${OTHER_ARCH}`));
});

const emulator = `/proc/sys/fs/binfmt_misc/qemu-${OTHER_ARCH === 'arm64' ? 'aarch64' : 'x86_64'}`;
t.test(`the whole image for ${OTHER_ARCH}`, { skip: `NOT BUILT for ${OTHER_ARCH}: ${existsSync(emulator) ? 'the base here is of this machine alone' : `programs of that machine do not run here (${emulator})`}; build it with docker buildx` }, () => {});
