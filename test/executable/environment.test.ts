// Who calls a program of root's decides its arguments, and nothing else of what runs in it.
import t from 'tap';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { executable, folderProgram, noExecutable, run } from './executables.ts';

const skip = noExecutable;
const place = mkdtempSync(join(tmpdir(), 'imds-guard-environment-'));
t.teardown(() => rmSync(place, { recursive: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(place, name), text);
  return join(place, name);
};
const intruder = file('intruder.cjs', `require('node:fs').writeFileSync(${JSON.stringify(join(place, 'intruded'))}, '');`);

const variables: Readonly<Record<string, string>> = {
  NODE_OPTIONS: `--require ${intruder}`,
  NODE_PATH: place,
  NODE_EXTRA_CA_CERTS: '/no/such/file',
  NODE_USE_SYSTEM_CA: '1',
  NODE_TLS_REJECT_UNAUTHORIZED: '0',
};
// The build sets this one, to a list of command lines whose code is written beside the bundle.
const making = '{"commandLines":[["rules"]],"bundles":[]}';

t.test('no variable of Node runs or changes anything', { skip }, async (t) => {
  const usual = run([executable, 'rules']);
  for (const [name, value] of Object.entries(variables)) {
    t.same(run([executable, 'rules'], { env: { [name]: value } }), usual, name);
  }
  t.match(run([executable, 'rules'], { env: { NODE_OPTIONS: '--no-such-option' } }), usual, 'an option that there is not');
  for (const option of ['--require', '--inspect', '--node-options=--inspect', '--eval', '--version']) {
    t.notMatch(run([executable, option, intruder]), { status: 0, stdout: /v24/ }, `${option} is ours to read`);
  }
  t.match(run([executable, 'version'], { env: { IMDS_GUARD_MAKE_CACHE: making } }), { status: 0, stdout: /^imds-guard / }, 'only the build makes caches');
  t.match(run([executable, 'rules'], { env: { NODE_V8_COVERAGE: join(place, 'coverage') } }), { status: 0, stdout: usual.stdout });
  // Node itself does not start then, and says which variable it is.
  t.match(run([executable, 'rules'], { env: { NODE_REPL_EXTERNAL_MODULE: intruder } }), { status: 9, stdout: '', stderr: /NODE_REPL_EXTERNAL_MODULE/ });
  for (const name of ['intruded', 'coverage']) t.notOk(existsSync(join(place, name)), name);
});

t.test('whom to trust is not for the environment to say', { skip: skip || (run(['sh', '-c', 'command -v openssl']).status === 0 ? false : 'NOT TRIED: there is no openssl to make a certificate with') }, async (t) => {
  const [key, cert] = [join(place, 'key.pem'), join(place, 'cert.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert, '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'], { stdio: 'ignore' });
  let asked = 0;
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, answer) => {
    asked += 1;
    answer.end('{"kind":"NodeList","metadata":{},"items":[]}');
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const kubeconfig = (name: string, cluster: Readonly<Record<string, string>>): string =>
    file(name, JSON.stringify({ 'current-context': 'it', contexts: [{ name: 'it', context: { cluster: 'it', user: 'me' } }], clusters: [{ name: 'it', cluster: { server: url, ...cluster } }], users: [{ name: 'me', user: { token: 'x' } }] }));
  // Not run(): the server is in this process.
  const fleet = async (program: string, config: string, env: Readonly<Record<string, string>> = {}): Promise<string> => {
    const child = spawn(program, ['fleet', '--kubeconfig', config], { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (data) => (said += String(data)));
    await once(child, 'close');
    return said;
  };
  const strange = kubeconfig('strange', {});
  for (const program of [executable, folderProgram]) {
    for (const env of [{ NODE_EXTRA_CA_CERTS: cert }, { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, { NODE_USE_SYSTEM_CA: '1', SSL_CERT_FILE: cert }]) {
      t.match(await fleet(program, strange, env), /self-signed/, `${program} ${Object.keys(env).join()}`);
      t.equal(asked, 0);
    }
  }
  await fleet(executable, kubeconfig('known', { 'certificate-authority': cert }), { NODE_EXTRA_CA_CERTS: '/no/such/file' });
  t.equal(asked, 1, 'but for the kubeconfig it is');
});
