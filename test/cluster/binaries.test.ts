// Building, with a Go that is none: what is asked of it, how often, and what is said where it cannot.
import t, { type Test } from 'tap';
import { execa } from 'execa';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `build` is a shell script that is run for `go build`; $OUT is where the program is wanted. */
function makeWorld(t: Test, { version = 'go version go1.99.1 linux/amd64', build = 'echo program >"$OUT"' } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'imds-guard-binaries-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const builds = join(folder, 'builds');
  const setGo = (is: { readonly version?: string; readonly build?: string }): void => {
    const script = `#!/bin/sh
case $1 in
version) echo '${is.version ?? version}' ;;
build)
  echo "$@" >>${builds}
  while [ "$1" != -o ]; do shift; done
  OUT=$2
  ${is.build ?? build} ;;
esac
`;
    writeFileSync(join(folder, 'go'), script, { mode: 0o755 });
  };
  setGo({});
  return {
    setGo,
    builds: () => (existsSync(builds) ? readFileSync(builds, 'utf8').trim().split('\n') : []),
    want: (name: string, cache = 'cache') =>
      execa(process.execPath, [fileURLToPath(new URL('binaries.ts', import.meta.url)), name], {
        env: { PATH: `${folder}:${process.env['PATH'] ?? ''}`, IMDS_GUARD_CACHE: join(folder, cache), NODE_OPTIONS: '' },
        reject: false,
      }),
  };
}

t.test('what several want at once is built once, and found ever after', async t => {
  const world = makeWorld(t, { build: 'sleep 0.3; echo program >"$OUT"' });
  const found = await Promise.all([1, 2, 3].map(() => world.want('kube-apiserver')));
  const program = found[0]?.stdout ?? '';
  t.same(found.map(({ stdout, exitCode }) => ({ stdout, exitCode })), Array(3).fill({ stdout: program, exitCode: 0 }));
  t.equal(readFileSync(program, 'utf8'), 'program\n');
  t.equal(world.builds().length, 1);
  t.match(world.builds()[0], / -X k8s\.io\/component-base\/version\.gitVersion=v1\.36\.3 k8s\.io\/kubernetes\/cmd\/kube-apiserver$/);
  t.equal(found.filter(({ stderr }) => /^building kube-apiserver from source, once/.test(stderr)).length, 1, 'who builds says so');
  t.match(await world.want('kube-apiserver'), { stdout: program, stderr: '' });
  t.equal(world.builds().length, 1);
});

t.test('another Go builds another program', async t => {
  const world = makeWorld(t);
  const [first] = [await world.want('etcd')];
  world.setGo({ version: 'go version go1.99.2 linux/amd64' });
  const second = await world.want('etcd');
  t.not(first.stdout, second.stdout);
  t.equal(world.builds().length, 2);
});

t.test('a build that fails leaves no program, and is tried again', async t => {
  const world = makeWorld(t, { build: 'echo half >"$OUT"; echo "no such module" >&2; exit 1' });
  const failed = await world.want('helm');
  t.match(failed, { exitCode: 1, stdout: '', stderr: /no such module[\s\S]*helm could not be built/ });
  world.setGo({ build: 'echo whole >"$OUT"' });
  const { stdout } = await world.want('helm');
  t.equal(readFileSync(stdout, 'utf8'), 'whole\n');
  t.same(readdirSync(dirname(stdout)).sort(), ['helm', 'helm.lock']);
});

t.test('where Go is too old, or does not run, there is a reason and no failure', async t => {
  const world = makeWorld(t, { version: 'go version go1.25.9 linux/amd64' });
  t.match(await world.want('etcd'), { exitCode: 0, stdout: 'etcd: Go 1.26 is needed to build it, and this is go version go1.25.9 linux/amd64' });
  world.setGo({ version: "'; echo broken >&2; exit 2; '" });
  t.match(await world.want('node-problem-detector'), { exitCode: 0, stdout: 'node-problem-detector: Go 1.26 is needed to build it, and there is none (broken)' });
  t.same(world.builds(), []);
});
