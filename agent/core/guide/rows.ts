import { METADATA_OPTIONS } from '../userdata/formats.ts';
import type { GuideAsked } from './asked.ts';

/** One cell of the table: a line for the overview, and what to do. Lines that begin with two spaces are to be copied. */
export interface Cell {
  readonly short: string;
  readonly steps: (asked: GuideAsked) => readonly string[];
  /** What `imds-guard userdata` is to print for it; undefined where no user data can be given. */
  readonly format: 'userdata' | 'karpenter' | 'eksctl' | undefined;
}

export interface Row {
  readonly deployedAs: string;
  /** How it is asked for. */
  readonly flags: string;
  readonly isFor: (asked: GuideAsked) => boolean;
  readonly new: Cell;
  readonly existing: Cell;
}

const options = JSON.stringify({ MetadataOptions: { HttpEndpoint: METADATA_OPTIONS.httpEndpoint, HttpTokens: METADATA_OPTIONS.httpTokens, HttpPutResponseHopLimit: METADATA_OPTIONS.httpPutResponseHopLimit } });

const inConsole = [
  'In the console, below Advanced details of the launch template:',
  '  Metadata accessible: Enabled',
  '  Metadata version: V2 only (token required)',
  '  Metadata response hop limit: 1',
];

const moveOver = ({ cluster, region }: GuideAsked): string[] => [
  'Move the pods over, then take the old group away:',
  '  kubectl drain --ignore-daemonsets --delete-emptydir-data -l eks.amazonaws.com/nodegroup=OLD-GROUP',
  `  aws eks delete-nodegroup --cluster-name ${cluster} --nodegroup-name OLD-GROUP --region ${region}`,
];

/** The template that EKS publishes, in a bucket of the partition; its date changes (EKS user guide, "Create self-managed nodes"). */
function publishedTemplate({ partition, isWindows }: GuideAsked): string {
  const bucket = partition === 'aws-cn' ? 'https://s3.cn-north-1.amazonaws.com.cn' : 'https://s3.us-west-2.amazonaws.com';
  return `${bucket}/amazon-eks/cloudformation/DATE/amazon-eks-${isWindows ? 'windows-' : ''}nodegroup.yaml`;
}

const changeTemplate = (asked: GuideAsked): string[] => [
  `Get the template of your region and operating system (DATE: EKS user guide, "Create self-managed nodes"${asked.partition === 'aws-cn' ? '; China has a bucket of its own' : ''}):`,
  `  curl -O ${publishedTemplate(asked)}`,
  'Change in it, below MetadataOptions:',
  '  HttpPutResponseHopLimit : 2     to     HttpPutResponseHopLimit : 1',
];

/** The table of the EKS security best practices, "restrict access to IMDS", and Karpenter, which was not there then. */
export const ROWS: readonly Row[] = [
  {
    deployedAs: 'managed, no launch template of yours',
    flags: '--managed --no-launch-template',
    isFor: ({ by, hasLaunchTemplate }) => (by ?? 'managed') === 'managed' && hasLaunchTemplate !== true,
    new: {
      short: 'eksctl with --disable-pod-imds, and nothing else',
      steps: ({ cluster, region }) => [
        'Only eksctl can do this; it makes a launch template with it:',
        `  eksctl create nodegroup --cluster ${cluster} --region ${region} --name GROUP --managed --disable-pod-imds`,
        'It refuses --disable-pod-imds together with iam.withAddonPolicies: give those add-ons roles of their own.',
      ],
      format: 'eksctl',
    },
    existing: {
      short: 'make a new group with a launch template',
      steps: (asked) => [
        'Such a group cannot be changed. Make a new one with a launch template of yours:',
        `  imds-guard guide --managed --new --launch-template${asked.isWindows ? ' --windows' : asked.os === undefined ? '' : ` --os ${asked.os}`}`,
        ...moveOver(asked),
      ],
      format: 'userdata',
    },
  },
  {
    deployedAs: 'managed, launch template of yours',
    flags: '--managed --launch-template',
    isFor: ({ by, hasLaunchTemplate }) => (by ?? 'managed') === 'managed' && hasLaunchTemplate !== false,
    new: {
      short: 'V2 only, hop limit 1 in the template',
      steps: ({ cluster, region }) => [
        ...inConsole,
        'Or by the command line (user data is in base64 there), then make the group with it:',
        `  aws ec2 create-launch-template --launch-template-name NAME --region ${region} --launch-template-data '${options}'`,
        `  aws eks create-nodegroup --cluster-name ${cluster} --region ${region} --nodegroup-name GROUP --launch-template name=NAME,version=1 …`,
      ],
      format: 'userdata',
    },
    existing: {
      short: 'the same in a new version, update the group',
      steps: ({ cluster, region }) => [
        ...inConsole,
        'Or by the command line: a new version of the template, and the group updated to it (each node is replaced):',
        `  aws ec2 create-launch-template-version --launch-template-name NAME --source-version OLD --region ${region} --launch-template-data '${options}'`,
        `  aws eks update-nodegroup-version --cluster-name ${cluster} --region ${region} --nodegroup-name GROUP --launch-template name=NAME,version=NEW`,
      ],
      format: 'userdata',
    },
  },
  {
    deployedAs: 'self-managed, console or CloudFormation',
    flags: '--self-managed --no-eksctl',
    isFor: ({ by, byEksctl }) => (by ?? 'self-managed') === 'self-managed' && byEksctl !== true,
    new: {
      short: 'change the published template: hop limit 1, DisableIMDSv1=true',
      steps: (asked) => [...changeTemplate(asked), 'Make the stack with it, and give it the parameter', '  DisableIMDSv1 = true'],
      format: 'userdata',
    },
    existing: {
      short: 'the same by an update; again at every later update',
      steps: (asked) => [
        ...changeTemplate(asked),
        'Update the stack with it (or make a second group and move over), and give it the parameter',
        '  DisableIMDSv1 = true',
        'EVERY later update of the group (AMI, Kubernetes version) starts from a published template: make the change again each time.',
      ],
      format: 'userdata',
    },
  },
  {
    deployedAs: 'self-managed, eksctl',
    flags: '--self-managed --eksctl',
    isFor: ({ by, byEksctl }) => (by ?? 'self-managed') === 'self-managed' && byEksctl !== false,
    new: {
      short: 'eksctl with --disable-pod-imds',
      steps: ({ cluster, region }) => [`  eksctl create nodegroup --cluster ${cluster} --region ${region} --name GROUP --managed=false --disable-pod-imds`],
      format: 'eksctl',
    },
    existing: {
      short: 'move to a new group made with it, every time',
      steps: ({ cluster, region }) => [
        'Such a group cannot be changed. Make a new one, and take the old one away (eksctl drains it):',
        `  eksctl create nodegroup --cluster ${cluster} --region ${region} --name NEW-GROUP --managed=false --disable-pod-imds`,
        `  eksctl delete nodegroup --cluster ${cluster} --region ${region} --name OLD-GROUP`,
        'EVERY later group that you move to needs the option again.',
      ],
      format: 'eksctl',
    },
  },
  {
    deployedAs: 'Karpenter',
    flags: '--karpenter',
    isFor: ({ by }) => (by ?? 'karpenter') === 'karpenter',
    new: { short: 'metadataOptions of the EC2NodeClass', steps: () => nodeClass('Hop limit 1 and required tokens are the default; say it all the same:'), format: 'karpenter' },
    existing: { short: 'the same; Karpenter replaces the nodes', steps: () => nodeClass('In the EC2NodeClass. Karpenter sees nodes that are otherwise (drift), and replaces them as disruption budgets let it:'), format: 'karpenter' },
  },
];

const nodeClass = (first: string): string[] => [
  first,
  '  spec:',
  '    metadataOptions:',
  `      httpEndpoint: ${METADATA_OPTIONS.httpEndpoint}`,
  '      httpProtocolIPv6: disabled',
  `      httpPutResponseHopLimit: ${METADATA_OPTIONS.httpPutResponseHopLimit}`,
  `      httpTokens: ${METADATA_OPTIONS.httpTokens}`,
];
