import { addressBlock } from 'node-iptables';
import { type Executable, type Format, type Joining, MACHINES, type Machine, type Os, type Partition, type Refused, type UserDataWanted } from './wanted.ts';

/** As the command line has it. */
export interface UserDataOptions {
  readonly os: Os | undefined;
  readonly format: Format;
  readonly cluster: string | undefined;
  readonly region: string | undefined;
  readonly partition: Partition | undefined;
  readonly executableUrl: string | undefined;
  readonly executableSha256: readonly string[];
  readonly apiServer: string | undefined;
  readonly clusterCa: string | undefined;
  readonly serviceCidr: string | undefined;
}

/**
 * Checks each value against what it may be, letter by letter: all of it goes into scripts that root runs. No letter that a
 * shell, YAML, TOML, HCL or MIME would read as more than itself gets through (test/unit/userdata.test.ts).
 */
export function readWanted(options: UserDataOptions): UserDataWanted | Refused {
  const because = firstProblem(options);
  if (because !== undefined) return { is: 'refused', because };
  const { os, format, cluster = '', region } = options;
  return { os: os ?? 'al2023', format, cluster, region, partition: options.partition ?? partitionOf(region), executable: executableOf(options), joining: joiningOf(options) };
}

/** EKS: letters, digits, `-` and `_`, at most 100. */
const CLUSTER = /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/;
const REGION = /^(?:us-gov|[a-z]{2})-[a-z]{4,9}-[1-9]$/;
const PATH = String.raw`\/[A-Za-z0-9._~%+=:@,\/-]+`;
const WEB_ADDRESS = new RegExp(String.raw`^https?:\/\/[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?(?::[0-9]{1,5})?${PATH}(?:\?[A-Za-z0-9._~%+=:@,&\/-]+)?$`);
const S3_ADDRESS = new RegExp(String.raw`^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]${PATH}$`);
const SHA256 = /^(?:(x64|arm64)=)?([0-9a-f]{64})$/;
const API_SERVER = /^https:\/\/[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?$/;
/** `-----BEGIN CERTIFICATE-----`, in base64. */
const CLUSTER_CA = /^LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const CIDR = /^[0-9a-f.:]+\/[0-9]{1,3}$/;

const HOW_TO_JOIN = 'aws eks describe-cluster --name CLUSTER tells them';

function firstProblem(options: UserDataOptions): string | undefined {
  return ofWords(options) ?? ofPartition(options) ?? ofExecutable(options) ?? ofJoining(options);
}

function ofWords({ os, format, cluster, region }: UserDataOptions): string | undefined {
  if (os === undefined) return '--os is needed: al2023, al2, bottlerocket or ubuntu';
  if (os === 'bottlerocket' && format === 'script') return '--format script is not for bottlerocket, where nothing can be installed; its user data does the same (--format userdata)';
  if (format === 'eksctl' && region === undefined) return '--format eksctl needs --region: the one of the cluster';
  if (cluster === undefined && format !== 'script') return '--cluster is needed: the name of the EKS cluster';
  if (cluster !== undefined && !CLUSTER.test(cluster)) return `--cluster ${cluster}: no name of an EKS cluster (letters, digits, - and _, at most 100, the first a letter or digit)`;
  if (region !== undefined && !REGION.test(region)) return `--region ${region}: no region such as eu-west-1, cn-north-1 or us-gov-west-1`;
  return undefined;
}

function ofPartition({ region, partition, executableUrl, apiServer }: UserDataOptions): string | undefined {
  if (region !== undefined && partition !== undefined && partitionOf(region) !== partition) return `--region ${region} is of partition ${partitionOf(region)}, not ${partition}`;
  const inChina = (partition ?? partitionOf(region)) === 'aws-cn';
  for (const [option, address] of [['--executable-url', executableUrl], ['--api-server', apiServer]] as const) {
    const host = /^https?:\/\/([^/:?]*)/.exec(address ?? '')?.[1] ?? '';
    if (inChina && /\.(?:amazonaws\.com|api\.aws)$/.test(host)) return `${option} ${address}: endpoints of partition aws-cn end in amazonaws.com.cn`;
    if (!inChina && /\.(?:amazonaws|amazonwebservices)\.com\.cn$/.test(host)) return `${option} ${address} is in China: give its --region (cn-north-1, cn-northwest-1) or --partition aws-cn`;
  }
  return undefined;
}

function ofExecutable({ os, region, executableUrl: url, executableSha256: hashes }: UserDataOptions): string | undefined {
  if (url === undefined && hashes.length === 0) return undefined;
  if (os === 'bottlerocket') return '--executable-url is not for bottlerocket, whose root is read-only: the DaemonSet brings imds-guard there, the user data its rules';
  if (os === 'al2') return '--executable-url is not for al2, whose glibc is 2.26 where imds-guard needs 2.28: the DaemonSet brings imds-guard there, the user data its rules';
  if (url === undefined) return '--executable-sha256 needs --executable-url: where nodes get it from';
  if (hashes.length === 0) return '--executable-url needs --executable-sha256: what sha256sum prints for the file (SHA256SUMS has it)';
  const plain = url.replaceAll('{arch}', 'arch');
  if (!WEB_ADDRESS.test(plain) && !S3_ADDRESS.test(plain)) return `--executable-url ${url}: an address such as https://HOST/PATH or s3://BUCKET/KEY is expected, in plain letters`;
  if (url.startsWith('s3:') && region === undefined) return '--executable-url s3://… needs --region: the one that the bucket is in';
  for (const hash of hashes) if (!SHA256.test(hash)) return `--executable-sha256 ${hash}: 64 hexadecimal digits are expected, in small letters, or x64=… and arm64=…`;
  const machines = hashes.map((hash) => SHA256.exec(hash)?.[1]);
  if (new Set(machines).size < machines.length) return '--executable-sha256 is given twice for one kind of machine';
  if (machines.length > 1 && machines.includes(undefined)) return '--executable-sha256: either one for all, or x64=… and arm64=…';
  if (url.includes('{arch}') && machines.includes(undefined)) return '--executable-url with {arch} needs --executable-sha256 x64=… and arm64=…: the files are not the same';
  if (machines.length > 1 && !url.includes('{arch}')) return '--executable-url needs {arch} where there are two hashes: it stands for x64 or arm64';
  return undefined;
}

function ofJoining({ os, format, apiServer, clusterCa, serviceCidr }: UserDataOptions): string | undefined {
  const isGiven = apiServer !== undefined || clusterCa !== undefined || serviceCidr !== undefined;
  const ownBusiness = format === 'eksctl' || (format === 'karpenter' && os !== 'ubuntu') || format === 'script';
  if (isGiven && ownBusiness) return `--api-server, --cluster-ca and --service-cidr are not for --format ${format}${format === 'script' ? '' : ', which joins nodes by itself'}`;
  // Nobody adds to the user data of an Ubuntu node: for EC2 and for Karpenter it is a custom image.
  if (!isGiven && os === 'ubuntu' && !ownBusiness) return `Ubuntu nodes join by their user data: --api-server and --cluster-ca are needed; ${HOW_TO_JOIN}`;
  if (!isGiven) return undefined;
  if (apiServer === undefined || clusterCa === undefined) return `--api-server and --cluster-ca are needed together; ${HOW_TO_JOIN}`;
  if (os === 'al2023' && serviceCidr === undefined) return `AL2023 nodes need --service-cidr too; ${HOW_TO_JOIN}`;
  if (!API_SERVER.test(apiServer)) return `--api-server ${apiServer}: an address such as https://HOST is expected`;
  if (!CLUSTER_CA.test(clusterCa)) return '--cluster-ca: a certificate in base64 is expected, as aws eks describe-cluster prints it (certificateAuthority.data)';
  if (serviceCidr !== undefined && (!CIDR.test(serviceCidr) || addressBlock(familyOf(serviceCidr), serviceCidr) === undefined)) return `--service-cidr ${serviceCidr}: a block such as 10.100.0.0/16 or fd12:3456::/108 is expected`;
  return undefined;
}

export const familyOf = (cidr: string): 'ipv4' | 'ipv6' => (cidr.includes(':') ? 'ipv6' : 'ipv4');

const partitionOf = (region: string | undefined): Partition => (region?.startsWith('cn-') ? 'aws-cn' : region?.startsWith('us-gov-') ? 'aws-us-gov' : 'aws');

function executableOf({ executableUrl: url, executableSha256 }: UserDataOptions): Executable | undefined {
  if (url === undefined) return undefined;
  const found = executableSha256.map((hash) => SHA256.exec(hash));
  const [single] = found;
  if (single !== null && single !== undefined && single[1] === undefined) return { url, sha256: single[2] ?? '' };
  const byMachine = Object.fromEntries((Object.keys(MACHINES) as Machine[]).flatMap((machine) => found.flatMap((one) => (one?.[1] === machine ? [[machine, one[2]]] : []))));
  return { url, sha256: byMachine };
}

const joiningOf = ({ apiServer, clusterCa, serviceCidr }: UserDataOptions): Joining | undefined =>
  apiServer === undefined || clusterCa === undefined ? undefined : { apiServer, clusterCa, serviceCidr };
