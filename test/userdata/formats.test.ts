// Each text is read by a parser of its own language, and what it gives to the instance is what was meant, byte for byte.
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import hcl from 'hcl2-parser';
import { parse as parseToml } from 'smol-toml';
import { parse as parseYaml } from 'yaml';
import { rulesScript } from '../../agent/core/userdata/rules-script.ts';
import { setupScript } from '../../agent/core/userdata/setup-script.ts';
import { userData } from '../../agent/core/userdata/user-data.ts';
import { FROM_S3, FROM_WEB, JOINING, rendered, renderings, wanted } from './renderings.ts';

const folder = mkdtempSync(join(tmpdir(), 'imds-guard-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const fileOf = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
/** A loud reason to skip, or false. */
const missing = (program: string, ...args: readonly string[]): string | false => (spawnSync(program, args).error === undefined ? false : `NO ${program} here (apt-get install ${program}): NOT checked by it`);

const scripts = Object.keys(renderings).filter((name) => name.endsWith('.sh'));

t.test('shellcheck has nothing to say', { skip: missing('shellcheck', '--version') }, async (t) => {
  for (const name of scripts) {
    const { status, stdout } = spawnSync('shellcheck', ['--shell=sh', '--enable=quote-safe-variables', fileOf('checked.sh', renderings[name]!())], { encoding: 'utf8' });
    t.same({ status, stdout }, { status: 0, stdout: '' }, name);
  }
});

t.test('every shell reads them', async (t) => {
  for (const shell of ['sh', 'bash', 'dash'].filter((shell) => !missing(shell, '-c', ':'))) {
    for (const name of scripts) t.match(spawnSync(shell, ['-n', fileOf('read.sh', renderings[name]!())], { encoding: 'utf8' }), { status: 0, stderr: '' }, `${shell} ${name}`);
  }
});

t.test('systemd reads the units', { skip: missing('systemd-analyze', '--version') }, async (t) => {
  for (const name of readdirSync(new URL('../../userdata/', import.meta.url)).filter((name) => name.endsWith('.service'))) {
    const file = fileURLToPath(new URL(`../../userdata/${name}`, import.meta.url));
    const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' });
    // This one is of systemd 254, and the program is not here.
    const problems = stderr.split('\n').filter((line) => line !== '' && !/FileDescriptorStorePreserve|is not executable: No such file|Failed to (get|connect)|Cannot (add|find)/.test(line) && line.includes('imds-guard'));
    t.same(problems, [], name);
  }
});

t.test('and kubelet requires the rules once they are enabled', { skip: missing('systemctl', '--version') }, async (t) => {
  const units = join(folder, 'etc/systemd/system');
  mkdirSync(units, { recursive: true });
  for (const name of ['imds-guard-rules.service', 'imds-guard-fetch.service', 'imds-guard.service']) writeFileSync(join(units, name), renderings[name]!());
  t.equal(spawnSync('systemctl', [`--root=${folder}`, 'enable', 'imds-guard-rules.service', 'imds-guard-fetch.service', 'imds-guard.service']).status, 0);
  const links = (readdirSync(units, { recursive: true, encoding: 'utf8' })).filter((name) => name.includes('/')).sort();
  t.same(links, ['kubelet.service.requires/imds-guard-rules.service', 'multi-user.target.wants/imds-guard-fetch.service', 'multi-user.target.wants/imds-guard.service', 'snap.kubelet-eks.daemon.service.requires/imds-guard-rules.service']);
});

t.test('AL2023 and AL2: MIME, as Python and cloud-init read it', { skip: missing('python3', '--version') }, async (t) => {
  const parts = (text: string): unknown => {
    const { stdout, stderr } = spawnSync('python3', ['-c', 'import email, json, sys; print(json.dumps([[p.get_content_type(), p.get_payload()] for p in email.message_from_string(sys.stdin.read()).walk() if not p.is_multipart()]))'], { input: text, encoding: 'utf8' });
    t.equal(stderr, '');
    return JSON.parse(stdout);
  };
  const setup = setupScript(wanted({ os: 'al2023', ...FROM_S3 }));
  t.same(parts(rendered({ os: 'al2023', ...FROM_S3 })), [['text/x-shellscript', setup]]);
  const [script, config] = parts(rendered({ os: 'al2023', ...FROM_S3, ...JOINING })) as [unknown, [string, string]];
  t.same(script, ['text/x-shellscript', setup], 'rules first');
  t.equal(config[0], 'application/node.eks.aws');
  t.same(parseYaml(config[1]), {
    apiVersion: 'node.eks.aws/v1alpha1',
    kind: 'NodeConfig',
    spec: { cluster: { name: 'example', apiServerEndpoint: JOINING.apiServer, certificateAuthority: JOINING.clusterCa, cidr: JOINING.serviceCidr } },
  });
  for (const [cidr, words] of [['10.100.0.0/16', "'--dns-cluster-ip' '10.100.0.10'"], ['fd12:3456:789a::/108', "'--ip-family' 'ipv6' '--service-ipv6-cidr' 'fd12:3456:789a::/108'"]]) {
    const [, bootstrap] = parts(rendered({ os: 'al2', ...JOINING, serviceCidr: cidr })) as [unknown, [string, string]];
    t.same(bootstrap, ['text/x-shellscript', `#!/bin/sh\n'/etc/eks/bootstrap.sh' 'example' '--apiserver-endpoint' '${JOINING.apiServer}' '--b64-cluster-ca' '${JOINING.clusterCa}' ${words}\n`]);
  }
});

t.test('Ubuntu: cloud-init takes it', { skip: missing('cloud-init', '--version') }, async (t) => {
  for (const more of [{}, FROM_WEB, FROM_S3]) {
    const { status, stdout, stderr } = spawnSync('cloud-init', ['schema', '--config-file', fileOf('user-data.yaml', rendered({ os: 'ubuntu', ...more, ...JOINING }))], { encoding: 'utf8' });
    t.equal(status, 0, stdout + stderr);
  }
});

t.test('Ubuntu: the script as a file, run before what starts kubelet', async (t) => {
  const { write_files: files, runcmd } = parseYaml(rendered({ os: 'ubuntu', ...FROM_WEB, ...JOINING })) as { write_files: unknown; runcmd: readonly (readonly string[])[] };
  t.same(files, [{ path: '/opt/imds-guard/setup.sh', permissions: '0755', content: setupScript(wanted({ os: 'al2023', ...FROM_WEB })) }]);
  t.same(runcmd.map(([first, second]) => (first === '/bin/sh' ? second : first)), ['/opt/imds-guard/setup.sh', '/etc/eks/bootstrap.sh']);
});

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const CONTAINER = { mode: 'always', essential: true, 'user-data': Buffer.from(rulesScript()).toString('base64') };

t.test('Bottlerocket: TOML', async (t) => {
  t.same(plain(parseToml(rendered({ os: 'bottlerocket' }))), { settings: { 'bootstrap-containers': { 'imds-guard': CONTAINER } } });
  t.same(plain(parseToml(rendered({ os: 'bottlerocket', ...JOINING }))), {
    settings: {
      kubernetes: { 'cluster-name': 'example', 'api-server': JOINING.apiServer, 'cluster-certificate': JOINING.clusterCa, 'cluster-dns-ip': '10.100.0.10' },
      'bootstrap-containers': { 'imds-guard': CONTAINER },
    },
  });
});

const HOP_LIMIT_ONE = { HttpEndpoint: 'enabled', HttpTokens: 'required', HttpPutResponseHopLimit: 1 };

t.test('Karpenter, CloudFormation, Terraform and eksctl: the user data comes out of them as it went in, with hop limit 1 beside it', async (t) => {
  for (const os of ['al2023', 'al2', 'bottlerocket', 'ubuntu'] as const) {
    const joining = os === 'ubuntu' ? JOINING : {};
    const options = os === 'bottlerocket' || os === 'al2' ? { os, ...joining } : { os, ...FROM_S3, ...joining };
    const meant = userData(wanted(options));

    const nodeClass = parseYaml(rendered({ ...options, format: 'karpenter' })) as { kind: string; spec: Record<string, unknown> };
    t.match(nodeClass, { apiVersion: 'karpenter.k8s.aws/v1', kind: 'EC2NodeClass' });
    t.same(nodeClass.spec['metadataOptions'], { httpEndpoint: 'enabled', httpProtocolIPv6: 'disabled', httpPutResponseHopLimit: 1, httpTokens: 'required' });
    t.equal(nodeClass.spec['userData'], meant, `${os} karpenter`);

    const stack = parseYaml(rendered({ ...options, format: 'cloudformation' })) as { Resources: { ImdsGuard: { Type: string; Properties: { LaunchTemplateData: Record<string, unknown> } } } };
    t.equal(stack.Resources.ImdsGuard.Type, 'AWS::EC2::LaunchTemplate');
    t.same(stack.Resources.ImdsGuard.Properties.LaunchTemplateData, { MetadataOptions: HOP_LIMIT_ONE, UserData: { 'Fn::Base64': meant } }, `${os} cloudformation`);

    const [{ resource }, problem] = hcl.parseToObject(rendered({ ...options, format: 'terraform' }));
    t.equal(problem, null);
    const template = resource.aws_launch_template.imds_guard[0];
    t.same(template.metadata_options, [{ http_endpoint: 'enabled', http_tokens: 'required', http_put_response_hop_limit: 1 }]);
    // The parser gives expressions as they are written.
    const [, heredoc = ''] = /^\$\{base64encode\(<<EOT\n([\s\S]*?)EOT\n *\)\}$/.exec(template.user_data) ?? [];
    t.equal(heredoc.replaceAll('$${', '${').replaceAll('%%{', '%{'), meant, `${os} terraform`);
    t.notMatch(heredoc, /(^|[^$])\$\{|(^|[^%])%\{/, 'nothing in it is an expression');

    const { managedNodeGroups, metadata } = parseYaml(rendered({ ...options, ...FROM_S3_REGION, format: 'eksctl', apiServer: undefined, clusterCa: undefined, serviceCidr: undefined })) as { metadata: unknown; managedNodeGroups: readonly Record<string, unknown>[] };
    t.same(metadata, { name: 'example', region: 'eu-west-1' });
    t.match(managedNodeGroups[0], { disablePodIMDS: true });
    if (os === 'bottlerocket') t.same(managedNodeGroups[0]?.['bottlerocket'], { settings: { 'bootstrap-containers': { 'imds-guard': CONTAINER } } });
    else t.same(managedNodeGroups[0]?.['preBootstrapCommands'], [setupScript(wanted(options))], `${os} eksctl`);
  }
});
const FROM_S3_REGION = { region: FROM_S3.region } as const;

t.test('China: its own partition in what the role must be allowed', async (t) => {
  t.match(rendered({ os: 'al2023', format: 'cloudformation', ...FROM_S3, region: 'cn-northwest-1' }), /s3:GetObject on arn:aws-cn:s3:::example-bucket\/imds-guard-linux-\*\n/);
  t.match(rendered({ os: 'al2023', format: 'terraform', ...FROM_S3, region: 'us-gov-west-1' }), /arn:aws-us-gov:s3:::/);
});

t.test('plain letters alone: MIME says us-ascii, and no boundary is in what it divides', async (t) => {
  for (const [name, text] of Object.entries(renderings)) t.notMatch(text(), /[^\n\x20-\x7e]/, name);
  t.equal(readFileSync(new URL('../../userdata/renderings/al2023-joining.mime', import.meta.url), 'utf8').match(/^--IMDS-GUARD-PART/gm)?.length, 3);
});
