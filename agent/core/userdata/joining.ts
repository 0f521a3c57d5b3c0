import { shellWord } from './quote.ts';
import { familyOf } from './read-wanted.ts';
import type { Joining, UserDataWanted } from './wanted.ts';

type Cluster = UserDataWanted['cluster'];

/** For nodeadm, of AL2023. */
export const nodeConfig = (cluster: Cluster, { apiServer, clusterCa, serviceCidr }: Joining): string => `---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: "${cluster}"
    apiServerEndpoint: "${apiServer}"
    certificateAuthority: "${clusterCa}"
    cidr: "${serviceCidr ?? ''}"
`;

/** The words of bootstrap.sh, of AL2 and Ubuntu. */
export const bootstrapWords = (cluster: Cluster, { apiServer, clusterCa, serviceCidr }: Joining): readonly string[] => [
  '/etc/eks/bootstrap.sh', cluster, '--apiserver-endpoint', apiServer, '--b64-cluster-ca', clusterCa, ...cidrWords(serviceCidr),
];
export const bootstrapScript = (cluster: Cluster, joining: Joining): string => `#!/bin/sh\n${bootstrapWords(cluster, joining).map(shellWord).join(' ')}\n`;

function cidrWords(cidr: Joining['serviceCidr']): readonly string[] {
  if (cidr === undefined) return [];
  return familyOf(cidr) === 'ipv6' ? ['--ip-family', 'ipv6', '--service-ipv6-cidr', cidr] : ['--dns-cluster-ip', dnsAddress(cidr)];
}

/** EKS gives its DNS the tenth address of the block: 10.100.0.10 of 10.100.0.0/16; fd12:3456::a of fd12:3456::/108. */
export const dnsAddress = (cidr: string): string => {
  const [base = ''] = cidr.split('/');
  return familyOf(cidr) === 'ipv6' ? base.replace(/::[0-9a-f]*$/, '::a') : base.replace(/\.[0-9]+$/, '.10');
};

export const bottlerocketSettings = (cluster: Cluster, { apiServer, clusterCa, serviceCidr }: Joining): string =>
  ['[settings.kubernetes]', `cluster-name = "${cluster}"`, `api-server = "${apiServer}"`, `cluster-certificate = "${clusterCa}"`, ...(serviceCidr === undefined ? [] : [`cluster-dns-ip = "${dnsAddress(serviceCidr)}"`]), '', ''].join('\n');
