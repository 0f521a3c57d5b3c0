/** A family as a strict reader of Prometheus' text format 0.0.4 sees it. */
export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

/**
 * Stricter than Prometheus, which forgives much: HELP then TYPE once, all samples of a family together, no series twice,
 * labels in the order given, only the three escapes there are, a line end after the last line.
 *
 * @throws Error with the line
 */
export function readMetrics(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('no line end at the end');
  const families = new Map<string, Family>();
  const series = new Set<string>();
  const lines = text.slice(0, -1).split('\n');
  let name = '';
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at]!;
    const wrong = (why: string): Error => new Error(`line ${at + 1}, ${why}: ${line}`);
    const help = /^# HELP ([a-z_:][a-z0-9_:]*) (\S.*)$/.exec(line);
    if (help) {
      name = help[1]!;
      const type = new RegExp(`^# TYPE ${name} (counter|gauge|histogram)$`).exec(lines[(at += 1)] ?? '');
      if (!type) throw wrong('HELP without TYPE');
      if (families.has(name)) throw wrong('described twice');
      families.set(name, { type: type[1]!, help: help[2]!, samples: [] });
      continue;
    }
    const sample = /^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (-?(?:\d+(?:\.\d+)?(?:e[+-]\d+)?))$/s.exec(line);
    if (!sample) throw wrong('not a sample');
    const family = families.get(name);
    const suffixes = family?.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    if (!family || !suffixes.some((suffix) => sample[1] === name + suffix)) throw wrong(`not of the family ${name}`);
    const [, own, labels = ''] = sample;
    if (series.has(own + labels)) throw wrong('the same series twice');
    series.add(own + labels);
    (family.samples as Family['samples'][number][]).push({ name: own!, labels: readLabels(labels, wrong), value: Number(sample[3]) });
  }
  return families;
}

function readLabels(text: string, wrong: (why: string) => Error): Record<string, string> {
  const labels: Record<string, string> = {};
  let rest = text;
  while (rest !== '') {
    const pair = /^([a-z_][a-z0-9_]*)="((?:[^"\\]|\\[\\n"])*)"(?:,(?=.)|$)/su.exec(rest);
    if (!pair) throw wrong(`no label at ${rest}`);
    const [all, name, value] = pair;
    if (Object.hasOwn(labels, name!)) throw wrong(`label ${name} twice`);
    labels[name!] = value!.replace(/\\(.)/g, (_, escape: string) => (escape === 'n' ? '\n' : escape));
    rest = rest.slice(all.length);
  }
  return labels;
}
