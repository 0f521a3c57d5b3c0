import { indented } from './quote.ts';
import { rulesScript } from './rules-script.ts';
import { setupScript } from './setup-script.ts';
import { userData } from './user-data.ts';
import type { Os, UserDataWanted } from './wanted.ts';

/** What EC2 itself can do beside the rules: no IMDSv1, and no token for who is a hop away. */
export const METADATA_OPTIONS = { httpEndpoint: 'enabled', httpTokens: 'required', httpPutResponseHopLimit: 1 } as const;

const HOW = 'Made by `imds-guard userdata`. Pods are kept from IMDS twice: by EC2 (tokens, hop limit 1), and by rules from before kubelet on.';

/** For Karpenter v1. Its own part of the user data comes behind ours. */
export const karpenter = (wanted: UserDataWanted): string => `# ${HOW}
# Role and tags are those of Karpenter's own guide: put yours in.
${rightLines(wanted)}apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata:
  name: imds-guard
spec:
${wanted.os === 'ubuntu' ? UBUNTU_IMAGE : `  amiSelectorTerms:\n    - alias: ${wanted.os}@latest\n`}  role: "KarpenterNodeRole-${wanted.cluster}"
  subnetSelectorTerms:
    - tags:
        karpenter.sh/discovery: "${wanted.cluster}"
  securityGroupSelectorTerms:
    - tags:
        karpenter.sh/discovery: "${wanted.cluster}"
  metadataOptions:
    httpEndpoint: ${METADATA_OPTIONS.httpEndpoint}
    httpProtocolIPv6: disabled
    httpPutResponseHopLimit: ${METADATA_OPTIONS.httpPutResponseHopLimit}
    httpTokens: ${METADATA_OPTIONS.httpTokens}
  userData: |
${indented(userData(wanted), 4)}`;

/** An image that is nowhere, so that nobody starts another than was meant. */
const UBUNTU_IMAGE = `  amiFamily: Custom
  # In place of this: the image of Ubuntu for EKS, of your region and Kubernetes version.
  amiSelectorTerms:
    - id: ami-00000000000000000
`;

export const cloudFormation = (wanted: UserDataWanted): string => `# ${HOW}
# For AWS::EKS::Nodegroup: LaunchTemplate: {Id: !Ref ImdsGuard, Version: !GetAtt ImdsGuard.LatestVersionNumber}
${rightLines(wanted)}AWSTemplateFormatVersion: "2010-09-09"
Description: "Nodes of the EKS cluster ${wanted.cluster} whose pods are kept from the EC2 instance metadata service"
Resources:
  ImdsGuard:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        MetadataOptions:
          HttpEndpoint: ${METADATA_OPTIONS.httpEndpoint}
          HttpTokens: ${METADATA_OPTIONS.httpTokens}
          HttpPutResponseHopLimit: ${METADATA_OPTIONS.httpPutResponseHopLimit}
        UserData:
          Fn::Base64: |
${indented(userData(wanted), 12)}`;

export const terraform = (wanted: UserDataWanted): string => `# ${HOW}
# For aws_eks_node_group:
#   launch_template { id = aws_launch_template.imds_guard.id, version = aws_launch_template.imds_guard.latest_version }
${rightLines(wanted)}resource "aws_launch_template" "imds_guard" {
  name_prefix = "${wanted.cluster}-imds-guard-"

  metadata_options {
    http_endpoint               = "${METADATA_OPTIONS.httpEndpoint}"
    http_tokens                 = "${METADATA_OPTIONS.httpTokens}"
    http_put_response_hop_limit = ${METADATA_OPTIONS.httpPutResponseHopLimit}
  }

  user_data = base64encode(<<EOT
${hclText(userData(wanted))}EOT
  )
}
`;

/** Only these two mean something in a here-document of HCL's. */
const hclText = (text: string): string => text.replaceAll('${', '$${').replaceAll('%{', '%%{');

const EKSCTL_FAMILY: Readonly<Record<Os, string>> = { al2023: 'AmazonLinux2023', al2: 'AmazonLinux2', bottlerocket: 'Bottlerocket', ubuntu: 'Ubuntu2404' };

/** `disablePodIMDS` is tokens required and hop limit 1, no rules (eksctl, pkg/cfn/builder). */
export const eksctl = (wanted: UserDataWanted): string => `# ${HOW}
# eksctl create nodegroup --config-file THIS-FILE
${rightLines(wanted)}apiVersion: eksctl.io/v1alpha5
kind: ClusterConfig
metadata:
  name: "${wanted.cluster}"
  region: "${wanted.region ?? ''}"
managedNodeGroups:
  - name: imds-guard
    amiFamily: ${EKSCTL_FAMILY[wanted.os]}
    disablePodIMDS: true
${wanted.os === 'bottlerocket' ? eksctlContainer() : `    preBootstrapCommands:\n      - |\n${indented(setupScript(wanted), 8)}`}`;

const eksctlContainer = (): string => `    bottlerocket:
      settings:
        bootstrap-containers:
          imds-guard:
            mode: always
            essential: true
            user-data: "${Buffer.from(rulesScript()).toString('base64')}"
`;

/** What the node's role must be allowed. */
function rightLines({ executable, partition }: UserDataWanted): string {
  if (executable === undefined || !executable.url.startsWith('s3://')) return '';
  const key = executable.url.slice('s3://'.length).replaceAll('{arch}', '*');
  return `# The role of the nodes needs: s3:GetObject on arn:${partition}:s3:::${key}\n`;
}
