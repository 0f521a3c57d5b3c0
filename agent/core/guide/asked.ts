import { type Os, type Partition, type Refused } from '../userdata/wanted.ts';

/** What the operator has told of the nodes; undefined where nothing was. */
export interface GuideAsked {
  readonly by: 'managed' | 'self-managed' | 'karpenter' | undefined;
  readonly age: 'new' | 'existing' | undefined;
  readonly hasLaunchTemplate: boolean | undefined;
  readonly byEksctl: boolean | undefined;
  readonly isWindows: boolean;
  readonly os: Os | undefined;
  /** For the commands that are printed: a word in capitals where it is not known. */
  readonly cluster: string;
  readonly region: string;
  readonly partition: Partition;
}

export type GuideOptions = Readonly<Partial<Record<'managed' | 'self-managed' | 'karpenter' | 'new' | 'existing' | 'launch-template' | 'eksctl' | 'windows', boolean>>> &
  Readonly<Partial<Record<'cluster' | 'region', string>>> & { readonly os?: Os | undefined; readonly partition?: Partition | undefined };

export function readGuide(options: GuideOptions): GuideAsked | Refused {
  const because = firstProblem(options);
  if (because !== undefined) return { is: 'refused', because };
  const inChina = options.partition === 'aws-cn' || options.region?.startsWith('cn-') === true;
  return {
    by: options.managed ? 'managed' : options['self-managed'] ? 'self-managed' : options.karpenter ? 'karpenter' : undefined,
    age: options.new ? 'new' : options.existing ? 'existing' : undefined,
    hasLaunchTemplate: options['launch-template'],
    byEksctl: options.eksctl,
    isWindows: options.windows === true,
    os: options.os,
    cluster: options.cluster ?? 'CLUSTER',
    region: options.region ?? (inChina ? 'cn-north-1' : 'REGION'),
    partition: options.partition ?? (inChina ? 'aws-cn' : 'aws'),
  };
}

/** These go into commands that are meant to be copied. */
const WORD = /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/;

function firstProblem(options: GuideOptions): string | undefined {
  const given = (['managed', 'self-managed', 'karpenter'] as const).filter((name) => options[name]);
  if (given.length > 1) return `--${given.join(' and --')} exclude each other`;
  if (options.new && options.existing) return '--new and --existing exclude each other';
  if (options['launch-template'] !== undefined && !options.managed) return '--launch-template is for --managed: self-managed nodes always have one';
  if (options.eksctl !== undefined && !options['self-managed']) return '--eksctl is for --self-managed';
  if (options.windows && options.os !== undefined) return `--windows and --os ${options.os} exclude each other`;
  for (const name of ['cluster', 'region'] as const) if (options[name] !== undefined && !WORD.test(options[name])) return `--${name} ${options[name]}: letters, digits, - and _ are expected`;
  return undefined;
}
