import type { GuideAsked } from './asked.ts';
import { type Cell, ROWS, type Row } from './rows.ts';

/** The one cell that was asked for with its steps; otherwise the rows that are left, and how to choose. */
export function guideText(asked: GuideAsked): string {
  const rows = ROWS.filter((row) => row.isFor(asked));
  const [only] = rows;
  const lines = rows.length === 1 && only !== undefined && asked.age !== undefined ? steps(asked, only, asked.age) : overview(asked, rows);
  return `${lines.join('\n')}\n`;
}

function overview(asked: GuideAsked, rows: readonly Row[]): string[] {
  const ages = asked.age === undefined ? (['new', 'existing'] as const) : [asked.age];
  const width = Math.max(...rows.map(({ flags }) => flags.length));
  return [
    'Pods are kept from IMDS in two ways. Do both: each holds where the other does not.',
    '  by EC2    tokens required, hop limit 1: where the group is made, as below',
    `  by rules  ${asked.isWindows ? 'none for Windows: hop limit and tokens are all there is' : 'on the node, before kubelet: imds-guard userdata'}`,
    '',
    ...rows.flatMap(({ deployedAs, flags, ...row }) => [deployedAs, ...ages.map((age) => `  ${`${flags} --${age}`.padEnd(width + 11)}  ${row[age].short}`)]),
    '',
    `Steps of one line: imds-guard guide and its options${asked.isWindows ? ' --windows' : '; --os al2023, al2, bottlerocket or ubuntu, or --windows'}; --cluster and --region for its commands.`,
    ...(rows.length === 1 ? [] : HOW_TO_CHOOSE.map((line) => line.replaceAll('CLUSTER', asked.cluster))),
  ];
}

const HOW_TO_CHOOSE = [
  '',
  'Which are yours? The labels of a node tell (kubectl get nodes --show-labels):',
  '  eks.amazonaws.com/nodegroup=…        managed; whether it has a launch template of yours:',
  "                                       aws eks describe-nodegroup --cluster-name CLUSTER --nodegroup-name … --query 'nodegroup.launchTemplate'",
  '  alpha.eksctl.io/nodegroup-name=…     eksctl (self-managed where the label above is missing)',
  '  karpenter.sh/nodepool=…              Karpenter',
  '  eks.amazonaws.com/compute-type=auto  EKS Auto Mode: hop limit 1 is fixed there, and nothing can be installed',
  '  eks.amazonaws.com/compute-type=fargate  no IMDS at all: nothing to do',
  '  none of them                         self-managed, by the console or CloudFormation',
];

const steps = (asked: GuideAsked, row: Row, age: 'new' | 'existing'): string[] => [
  `${row.deployedAs}, ${age === 'new' ? 'a new group' : 'a group that is there'}${asked.isWindows ? ', Windows' : asked.os === undefined ? '' : `, ${asked.os}`}`,
  '',
  'Before',
  '  Every pod that calls AWS has a role of its own (EKS Pod Identity, IRSA), and none needs IMDS for anything else, as the region.',
  '  The AWS Load Balancer Controller needs --aws-region and --aws-vpc-id (Helm: region, vpcId).',
  ...(asked.isWindows ? [] : ['  Not sure? On a node: imds-guard apply --mode observe blocks nobody; a day later imds-guard clients names the pods that ask.']),
  '',
  'By EC2',
  ...row[age].steps(asked).map((line) => `  ${line}`),
  '',
  'By rules',
  ...rules(asked, row, row[age]),
  '',
  'After',
  ...(asked.isWindows
    ? ['  In a pod, this must not answer: Invoke-RestMethod -Method Put -TimeoutSec 5 -Headers @{"X-aws-ec2-metadata-token-ttl-seconds"="1"} http://169.254.169.254/latest/api/token']
    : ['  On a node: imds-guard check; for the whole cluster: imds-guard fleet.']),
  '  hostNetwork pods are the node, and keep IMDS.',
];

function rules(asked: GuideAsked, row: Row, cell: Cell): string[] {
  if (asked.isWindows) return ['  None for Windows: hop limit 1 and required tokens are all there is.'];
  const os = asked.os ?? 'OS';
  const isFromTemplate = row.flags.startsWith('--self-managed --no-eksctl');
  const words = `imds-guard userdata --os ${os} --cluster ${asked.cluster} --region ${asked.region}`;
  const joins = isFromTemplate || os === 'ubuntu' ? ' --api-server … --cluster-ca … --service-cidr …' : '';
  const isRulesAlone = os === 'al2' || os === 'bottlerocket';
  const more = isRulesAlone ? '  The DaemonSet (daemonset/README.md) keeps the rules right.' : '  With --executable-url and --executable-sha256 the nodes fetch the daemon as well, which keeps the rules right.';
  const isUnmanaged = cell.format === 'eksctl' && row.flags.startsWith('--self-managed');
  if (isUnmanaged) return [`  ${words} --format eksctl`, '  prints a managed group; for this one write nodeGroups in place of managedNodeGroups.', more];
  if (cell.format === 'karpenter' || cell.format === 'eksctl') return [`  ${words} --format ${cell.format}${cell.format === 'karpenter' && os === 'ubuntu' ? joins : ''}`, more];
  return [`  ${words}${joins}`, ...(isFromTemplate ? ['  in place of the UserData of the template (Fn::Base64).'] : ['  into the launch template; --format cloudformation or terraform prints one with both.']), more];
}
