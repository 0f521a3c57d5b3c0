// The fetch script, with programs of the test's in place of the node's.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchScript } from '../../agent/core/userdata/fetch-script.ts';
import type { Executable } from '../../agent/core/userdata/wanted.ts';

const CONTENT = '#!/bin/sh\necho hello\n';
const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');
const RIGHT = hashOf(CONTENT);
const WRONG = '0'.repeat(64);
const URL = 'https://example.com/imds-guard';
const WRITES = `cat >"$file" <<'CONTENT'\n${CONTENT}CONTENT`;

/** A node: a folder for what is fetched, and one with programs, each of which notes how it was called. */
class Node {
  readonly #programs = mkdtempSync(join(tmpdir(), 'imds-guard-'));
  readonly #folder = mkdtempSync(join(tmpdir(), 'imds-guard-'));
  /** The whole of `/opt/imds-guard`. */
  readonly left = (): string[] => readdirSync(this.#folder);
  readonly program = join(this.#folder, 'imds-guard');

  constructor(brings: string) {
    const takesFile = 'for word in "$@"; do if test "$last" = -o; then file=$word; fi; last=$word; done';
    this.#put('curl', `${takesFile}\n${brings}`);
    this.#put('aws', `file=$last\n${brings}`, 'for last in "$@"; do :; done');
    for (const name of ['systemctl', 'sleep']) this.#put(name, '');
  }

  run(executable: Executable, region?: string): { readonly status: number | null; readonly said: string; readonly calls: readonly string[] } {
    const script = fetchScript(executable, region).replace(/^PATH=/m, `PATH=${this.#programs}:`).replace('program=/opt/imds-guard', `program=${this.#folder}`);
    rmSync(join(this.#programs, 'calls'), { force: true });
    const { status, stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
    const calls = existsSync(join(this.#programs, 'calls')) ? readFileSync(join(this.#programs, 'calls'), 'utf8').trimEnd().split('\n') : [];
    return { status, said: stderr + stdout, calls: calls.map((call) => call.replaceAll(this.#folder, '')) };
  }

  remove(): void {
    for (const folder of [this.#programs, this.#folder]) rmSync(folder, { recursive: true });
  }

  #put(name: string, does: string, first = ''): void {
    writeFileSync(join(this.#programs, name), `#!/bin/sh\nset -u\nlast=\n${first}\necho "${name} $*" >>${this.#programs}/calls\n${does}\n`);
    chmodSync(join(this.#programs, name), 0o755);
  }
}

const CURL = 'curl -fsSL --connect-timeout 10 --max-time 300 -o /imds-guard.part https://example.com/imds-guard';

t.test('the right file is put in its place, and the daemon started', async (t) => {
  const node = new Node(WRITES);
  t.teardown(() => node.remove());
  t.match(node.run({ url: URL, sha256: RIGHT }), { status: 0, said: /is there \(sha256 [0-9a-f]{64}\)\n$/, calls: [CURL, 'systemctl --no-block restart imds-guard.service'] });
  t.same(node.left(), ['imds-guard']);
  t.equal(statSync(node.program).mode & 0o777, 0o755);
  t.match(node.run({ url: URL, sha256: RIGHT }), { status: 0, said: '', calls: ['systemctl --no-block start imds-guard.service'] }, 'at the next boot nothing is fetched');
});

t.test('a file with another hash is loud, thrown away and never run', async (t) => {
  const node = new Node(WRITES);
  t.teardown(() => node.remove());
  const ran = node.run({ url: URL, sha256: WRONG });
  t.match(ran, { status: 1, said: /^imds-guard: WRONG HASH: https:\/\/example\.com\/imds-guard is not the file that was meant\. It was thrown away, and not run\.\n/, calls: [CURL] });
  t.equal(ran.calls.length, 1, 'it is not tried again, and no daemon is started');
  t.ok(ran.said.includes(`expected sha256 ${WRONG}\n`) && ran.said.includes(`found    sha256 ${RIGHT}\n`));
  t.same(node.left(), []);
});

t.test('what was there before stays until the right one is there', async (t) => {
  const node = new Node(WRITES);
  t.teardown(() => node.remove());
  writeFileSync(node.program, 'older');
  t.match(node.run({ url: URL, sha256: WRONG }), { status: 1 });
  t.equal(readFileSync(node.program, 'utf8'), 'older');
  t.match(node.run({ url: URL, sha256: RIGHT }), { status: 0 });
  t.equal(readFileSync(node.program, 'utf8'), CONTENT);
});

t.test('what does not run here is not put in its place', async (t) => {
  const old = '#!/bin/sh\necho "version GLIBC_2.28 not found" >&2\nexit 1\n';
  const node = new Node(`cat >"$file" <<'CONTENT'\n${old}CONTENT`);
  t.teardown(() => node.remove());
  t.match(node.run({ url: URL, sha256: hashOf(old) }), { status: 1, said: /GLIBC_2\.28 not found[\s\S]*FAILED: \S+ does not run on this node; why is above \(it needs glibc 2\.28 and libstdc\+\+\)/, calls: [CURL] });
  t.same(node.left(), []);
});

t.test('without a network it tries again, and ends', async (t) => {
  const node = new Node('echo "half a fi" >"$file"\necho "curl: (6) no such host" >&2\nexit 6');
  t.teardown(() => node.remove());
  const { status, said, calls } = node.run({ url: URL, sha256: RIGHT });
  t.equal(status, 1);
  t.same(calls.filter((call) => call !== CURL), ['sleep 5', 'sleep 10', 'sleep 15', 'sleep 20', 'sleep 25']);
  t.match(said, /curl: \(6\) no such host[\s\S]*FAILED: \S+ could not be fetched; why is above\. The rules that keep pods from IMDS stay[\s\S]*systemctl start imds-guard-fetch\n$/);
  t.same(node.left(), []);
});

t.test('from S3, the file of this kind of machine', async (t) => {
  const node = new Node(WRITES);
  t.teardown(() => node.remove());
  const [arch, other] = process.arch === 'arm64' ? (['arm64', 'x64'] as const) : (['x64', 'arm64'] as const);
  t.match(node.run({ url: 's3://bucket/imds-guard-linux-{arch}', sha256: { [arch]: RIGHT, [other]: WRONG } }, 'cn-north-1'), {
    status: 0,
    calls: [`aws s3 cp --only-show-errors --region cn-north-1 s3://bucket/imds-guard-linux-${arch} /imds-guard.part`, 'systemctl --no-block restart imds-guard.service'],
  });
  t.match(node.run({ url: 's3://bucket/imds-guard-linux-{arch}', sha256: { [other]: WRONG } }, 'cn-north-1'), { status: 1, said: /FAILED: no executable for \S+ in the user data\. The rules stay\./, calls: [] });
});
