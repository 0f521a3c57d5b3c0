import type { Sample } from './exposition.ts';

/**
 * Series whose labels are names that strangers choose: a process may call itself what it likes, and be started a thousand
 * times by another name. The first twenty keep series of their own, in the order they came in, and all later ones share
 * `other`: were it the twenty largest, a series could fall back into `other` and out again, and a counter must not fall.
 *
 * Names that are the same on the wire are one series, for Prometheus refuses all of a text that has a series twice: a lone
 * half of a surrogate pair has no UTF-8 but that of U+FFFD, and somebody may be called `other`.
 */
export function bounded(samples: readonly Sample[]): Sample[] {
  const series = new Map<string, Sample>();
  let named = 0;
  for (const { labels, value } of samples) {
    const own = mapValues(labels, (text) => text.toWellFormed());
    const hasOwn = series.has(JSON.stringify(own)) || named < AT_MOST;
    const kept = hasOwn ? own : mapValues(labels, () => OTHER);
    const key = JSON.stringify(kept);
    if (!series.has(key) && hasOwn) named += 1;
    series.set(key, { labels: kept, value: (series.get(key)?.value ?? 0) + value });
  }
  return [...series.values()];
}

const AT_MOST = 20;
const OTHER = 'other';

const mapValues = (labels: Sample['labels'], change: (text: string) => string): Sample['labels'] => Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, change(value)]));
