// What is checked in below userdata/, by file: units and scripts as every node gets them, and user data for a cluster that is nowhere.
import { fetchScript } from '../../agent/core/userdata/fetch-script.ts';
import { type UserDataOptions, readWanted } from '../../agent/core/userdata/read-wanted.ts';
import { renderUserData } from '../../agent/core/userdata/render.ts';
import { rulesScript } from '../../agent/core/userdata/rules-script.ts';
import { daemonUnit, fetchUnit, rulesUnit } from '../../agent/core/userdata/units.ts';
import type { UserDataWanted } from '../../agent/core/userdata/wanted.ts';

export const NOTHING_GIVEN: UserDataOptions = {
  os: undefined, format: 'userdata', cluster: undefined, region: undefined, partition: undefined, executableUrl: undefined, executableSha256: [], apiServer: undefined, clusterCa: undefined, serviceCidr: undefined,
};

export const FROM_S3 = {
  region: 'eu-west-1',
  executableUrl: 's3://example-bucket/imds-guard-linux-{arch}',
  executableSha256: [`x64=${'0123456789abcdef'.repeat(4)}`, `arm64=${'fedcba9876543210'.repeat(4)}`],
} as const satisfies Partial<UserDataOptions>;
export const FROM_WEB = { executableUrl: 'https://example.com/imds-guard-linux-x64', executableSha256: ['0123456789abcdef'.repeat(4)] } as const satisfies Partial<UserDataOptions>;
export const JOINING = {
  apiServer: 'https://0123456789ABCDEF0123456789ABCDEF.gr7.eu-west-1.eks.amazonaws.com',
  clusterCa: Buffer.from('-----BEGIN CERTIFICATE-----\nZXhhbXBsZQ==\n-----END CERTIFICATE-----\n').toString('base64'),
  serviceCidr: '10.100.0.0/16',
} as const satisfies Partial<UserDataOptions>;

/** Throws where it is refused. */
export function wanted(options: Partial<UserDataOptions>): UserDataWanted {
  const read = readWanted({ ...NOTHING_GIVEN, cluster: 'example', ...options });
  if ('is' in read) throw new Error(read.because);
  return read;
}
export function rendered(options: Partial<UserDataOptions>): string {
  const text = renderUserData(wanted(options));
  if (typeof text !== 'string') throw new Error(text.because);
  return text;
}

export const renderings: Readonly<Record<string, () => string>> = {
  'imds-guard-rules.service': rulesUnit,
  'imds-guard-fetch.service': fetchUnit,
  'imds-guard.service': daemonUnit,
  'renderings/rules.sh': rulesScript,
  'renderings/fetch-s3.sh': () => fetchScript(wanted({ os: 'al2023', ...FROM_S3 }).executable!, FROM_S3.region),
  'renderings/fetch-web.sh': () => fetchScript(wanted({ os: 'al2023', ...FROM_WEB }).executable!, undefined),
  'renderings/setup.sh': () => rendered({ os: 'al2023', format: 'script', ...FROM_S3 }),
  'renderings/setup-rules-alone.sh': () => rendered({ os: 'al2023', format: 'script' }),
  'renderings/al2023.mime': () => rendered({ os: 'al2023', ...FROM_S3 }),
  'renderings/al2023-joining.mime': () => rendered({ os: 'al2023', ...FROM_S3, ...JOINING }),
  'renderings/al2-joining.mime': () => rendered({ os: 'al2', ...JOINING }),
  'renderings/ubuntu-joining.yaml': () => rendered({ os: 'ubuntu', ...FROM_WEB, ...JOINING }),
  'renderings/bottlerocket.toml': () => rendered({ os: 'bottlerocket' }),
  'renderings/bottlerocket-joining.toml': () => rendered({ os: 'bottlerocket', ...JOINING }),
  'renderings/al2023-karpenter.yaml': () => rendered({ os: 'al2023', format: 'karpenter', ...FROM_S3 }),
  'renderings/bottlerocket-karpenter.yaml': () => rendered({ os: 'bottlerocket', format: 'karpenter' }),
  'renderings/al2023-cloudformation.yaml': () => rendered({ os: 'al2023', format: 'cloudformation', ...FROM_S3 }),
  'renderings/al2023-china-cloudformation.yaml': () => rendered({ os: 'al2023', format: 'cloudformation', ...FROM_S3, region: 'cn-north-1' }),
  'renderings/al2023-terraform.tf': () => rendered({ os: 'al2023', format: 'terraform', ...FROM_S3 }),
  'renderings/al2023-eksctl.yaml': () => rendered({ os: 'al2023', format: 'eksctl', ...FROM_S3 }),
  'renderings/bottlerocket-eksctl.yaml': () => rendered({ os: 'bottlerocket', format: 'eksctl', region: 'eu-west-1' }),
};
