// What an operator types, and what they get: the texts themselves are looked at in test/userdata.
import t from 'tap';
import { run } from './program.ts';
import { FROM_S3, FROM_WEB, JOINING, rendered, renderings } from '../userdata/renderings.ts';

const from = (executable: typeof FROM_S3 | typeof FROM_WEB): string[] => ['--executable-url', executable.executableUrl, ...executable.executableSha256.flatMap((hash) => ['--executable-sha256', hash])];
const joining = ['--api-server', JOINING.apiServer, '--cluster-ca', JOINING.clusterCa, '--service-cidr', JOINING.serviceCidr];

t.test('userdata prints it', async (t) => {
  const asked: readonly (readonly [readonly string[], string])[] = [
    [['--os', 'al2023', '--cluster', 'example', '--region', 'eu-west-1', ...from(FROM_S3)], renderings['renderings/al2023.mime']!()],
    [['--os=ubuntu', '--cluster=example', '--format=userdata', ...from(FROM_WEB), ...joining], renderings['renderings/ubuntu-joining.yaml']!()],
    [['--os', 'bottlerocket', '--cluster', 'example', '--format', 'karpenter'], renderings['renderings/bottlerocket-karpenter.yaml']!()],
    [['--os', 'al2', '--cluster', 'example', '--partition', 'aws-cn', '--format', 'terraform'], rendered({ os: 'al2', format: 'terraform', partition: 'aws-cn' })],
    [['--os', 'ubuntu', '--format', 'script'], rendered({ os: 'ubuntu', format: 'script' })],
  ];
  for (const [args, text] of asked) t.same(run(['userdata', ...args]), { status: 0, stdout: text, stderr: '' }, args.join(' '));
});

t.test('it looks at no settings, for it is not about this node', async (t) => {
  const args = ['userdata', '--os', 'al2023', '--cluster', 'example'];
  t.equal(run(args, { env: { IMDS_GUARD_INTERFACES: 'cali+', IMDS_GUARD_MODE: 'observe' } }).stdout, run(args).stdout);
});

t.test('a mistake is one line on stderr, exit 64, and nothing on stdout', async (t) => {
  const mistakes: readonly (readonly [readonly string[], RegExp])[] = [
    [['userdata'], /--os is needed: al2023, al2, bottlerocket or ubuntu/],
    [['userdata', '--os', 'windows'], /os.*"windows".*"al2023", "al2", "bottlerocket", "ubuntu"/],
    [['userdata', '--os', 'al2023'], /--cluster is needed/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--format', 'svg'], /format.*"svg".*"userdata", "script", "karpenter", "cloudformation", "terraform", "eksctl"/],
    [['userdata', '--os', 'al2023', '--cluster', "x'; reboot; '"], /--cluster x'; reboot; ': no name of an EKS cluster/],
    [['userdata', '--os', 'al2023', '--cluster', 'x\n\u001b[2J'], /no name of an EKS cluster|--cluster x/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--executable-url', 'https://example.com/$(reboot)', '--executable-sha256', '0'.repeat(64)], /--executable-url .*an address such as/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--executable-url', 'https://example.com/a', '--executable-sha256', 'abc'], /--executable-sha256 abc: 64 hexadecimal digits/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--region', 'mars-1'], /--region mars-1: no region such as eu-west-1/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--region', 'eu-west-1', '--partition', 'aws-cn'], /--region eu-west-1 is of partition aws, not aws-cn/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--executable-url', `https://example.com/${'a'.repeat(9000)}`, '--executable-sha256', '0'.repeat(64)], /the user data is \d+ bytes.*EC2 takes 16384/],
    [['userdata', '--os', 'al2023', '--cluster', 'x', '--interface', 'eni+'], /interface/],
    [['explain', '--format', 'terraform'], /format.*"terraform".*"text", "svg"/],
    [['guide', '--managed', '--self-managed'], /--managed and --self-managed exclude each other/],
    [['guide', '--launch-template'], /--launch-template is for --managed/],
    [['guide', '--output', 'json'], /output/],
  ];
  for (const [args, says] of mistakes) {
    const { status, stdout, stderr } = run(args);
    t.match({ status, stdout, lines: stderr.split('\n').length, stderr }, { status: 64, stdout: '', lines: 2, stderr: /^imds-guard: / }, args.join(' '));
    t.match(stderr, says, args.join(' '));
    t.notMatch(stderr, /\u001b/);
  }
});

t.test('guide asks nothing', async (t) => {
  t.match(run(['guide']), { status: 0, stderr: '', stdout: /--managed --launch-template --existing +the same in a new version/ });
  t.match(run(['guide', '--managed', '--existing', '--launch-template', '--os', 'al2023']), { status: 0, stdout: /^managed, launch template of yours, a group that is there, al2023\n/ });
  t.match(run(['guide', '--managed', '--no-launch-template', '--new']), { status: 0, stdout: /--disable-pod-imds/ });
  t.match(run(['guide', '--self-managed', '--eksctl', '--new', '--windows']), { status: 0, stdout: /None for Windows/ });
});

t.test('help says all of it', async (t) => {
  for (const option of ['--os', '--cluster', '--format', '--executable-url', '--executable-sha256', '--region', '--partition', '--api-server', '--cluster-ca', '--service-cidr']) t.ok(run(['userdata', '--help']).stdout.includes(option), option);
  for (const option of ['--managed', '--self-managed', '--new', '--existing', '--launch-template', '--os', '--windows']) t.ok(run(['guide', '--help']).stdout.includes(option), option);
  t.match(run(['--help']).stdout, /userdata[\s\S]*guide/);
});
