/** The operating systems of EKS nodes that run user data which can put rules in place. */
export const OSES = ['al2023', 'al2', 'bottlerocket', 'ubuntu'] as const;
export type Os = (typeof OSES)[number];

/** Whom the text is for. `script`: the shell script alone, for an image that is being built or a node that runs. */
export const FORMATS = ['userdata', 'script', 'karpenter', 'cloudformation', 'terraform', 'eksctl'] as const;
export type Format = (typeof FORMATS)[number];

export const PARTITIONS = ['aws', 'aws-cn', 'aws-us-gov'] as const;
export type Partition = (typeof PARTITIONS)[number];

/** By the names that the executables have (`imds-guard-linux-x64`). */
export const MACHINES = { x64: 'x86_64', arm64: 'aarch64' } as const;
export type Machine = keyof typeof MACHINES;

/** Where a node gets the executable from. `{arch}` in the address stands for `x64` or `arm64`. */
export interface Executable {
  readonly url: string;
  /** 64 hexadecimal digits: one for whatever machine, or one for each. */
  readonly sha256: string | Readonly<Partial<Record<Machine, string>>>;
}

/** What a node needs to join, where nobody else tells it. */
export interface Joining {
  readonly apiServer: string;
  /** PEM in base64, as `aws eks describe-cluster` prints it. */
  readonly clusterCa: string;
  readonly serviceCidr: string | undefined;
}

/** What was asked for. Every text in it has passed readWanted(), so it can stand between quotes of any kind. */
export interface UserDataWanted {
  readonly os: Os;
  readonly format: Format;
  /** Empty where it is not needed. */
  readonly cluster: string;
  readonly region: string | undefined;
  readonly partition: Partition;
  readonly executable: Executable | undefined;
  readonly joining: Joining | undefined;
}

/** In one line for the operator. */
export interface Refused {
  readonly is: 'refused';
  readonly because: string;
}
