/** A family of series, as Prometheus' text format 0.0.4 writes it. */
export interface Metric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  /** `_bucket`, `_sum`, `_count` of a histogram. */
  readonly suffix?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/**
 * HELP and TYPE once for each, then its samples. One with no samples yet is there all the same, to be found.
 *
 * ```
 * # HELP imds_guard_answer Whether pods are kept from IMDS: 1 for the answer that holds now.
 * # TYPE imds_guard_answer gauge
 * imds_guard_answer{answer="blocked"} 1
 * ```
 */
export const exposition = (metrics: readonly Metric[]): string => metrics.map(family).join('');

const family = ({ name, type, help, samples }: Metric): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.map(({ suffix, labels, value }) => `${name}${suffix ?? ''}${labelsText(labels)} ${value}\n`).join('')}`;

function labelsText(labels: Sample['labels']): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const ESCAPE: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };
const escaped = (text: string): string => text.replace(/[\\"\n]/g, (one) => ESCAPE[one]!);
