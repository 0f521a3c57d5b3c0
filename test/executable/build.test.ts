// What `make executable` promises of the files.
import t from 'tap';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { stripElf } from '../../agent/executable/strip-elf.mjs';
import { FUSE, sha256, verify } from '../../agent/executable/verify.mjs';
import { build, executable, folder, noExecutable, run } from './executables.ts';

const skip = noExecutable;
const place = mkdtempSync(join(tmpdir(), 'imds-guard-another-place-'));
t.teardown(() => rmSync(place, { recursive: true }));
const MOST_BYTES = 115_000_000;

t.test('built again elsewhere, they are the same bytes', { skip, timeout: 120_000 }, async (t) => {
  t.equal(build(place), readFileSync(join(folder, 'SHA256SUMS'), 'utf8'));
  t.same(readdirSync(place).sort(), ['SHA256SUMS', 'imds-guard-linux-arm64', 'imds-guard-linux-arm64.packages.json', 'imds-guard-linux-x64', 'imds-guard-linux-x64.packages.json']);
  for (const arch of ['x64', 'arm64']) t.ok(readFileSync(join(place, `imds-guard-linux-${arch}`)).length < MOST_BYTES, arch);
});

t.test('SHA256SUMS is what sha256sum takes', { skip }, async (t) => {
  t.match(run(['sh', '-c', `cd '${folder}' && sha256sum --check --strict SHA256SUMS`]), { status: 0, stderr: '' });
  t.match(readFileSync(join(folder, 'SHA256SUMS'), 'utf8'), `${sha256(readFileSync(executable))}  ${basename(executable)}\n`);
});

t.test('a file without the program, or with another, does not pass for an executable', { skip }, async (t) => {
  const bare = join(place, 'bare');
  copyFileSync(process.execPath, bare);
  t.throws(() => verify(bare, process.arch, Buffer.from('no blob is this')), /without the program: postject failed/);

  const other = join(place, 'other');
  copyFileSync(executable, other);
  writeFileSync(`${other}.packages.json`, '{}');
  t.throws(() => verify(other, process.arch, Buffer.from(FUSE)), /says that it is/);

  const broken = readFileSync(executable);
  // The name of the script that Node runs.
  broken.write('thrown', broken.indexOf("'use strict';\nconst { readFileSync"));
  writeFileSync(other, broken);
  t.throws(() => verify(other, process.arch, Buffer.from(FUSE)), /exit 1/);
});

t.test('only ELF files of 64 bits are stripped', async (t) => {
  t.throws(() => stripElf(Buffer.from('#!/bin/sh\necho no program at all\n')), /not a 64-bit little-endian ELF file/);
  const stripped = stripElf(readFileSync(process.execPath));
  t.ok(stripped.length < readFileSync(process.execPath).length * 0.9);
  writeFileSync(join(place, 'stripped'), stripped, { mode: 0o755 });
  t.match(run([join(place, 'stripped'), '-p', '6 * 7']), { status: 0, stdout: '42\n' });
});
