import { type Backend, type Family, type Judgement, baseChainsOf, judge, parseSave } from '../../agent/node-iptables/src/index.ts';
import { DEFAULT_SETTINGS, type Settings } from '../../agent/core/settings.ts';
import { type State, questionOf, targetsOf } from '../../agent/core/targets.ts';

/** A dump as a test writes it: tables, chains with their policies (accepting where none is named), rules. */
export type Tables = Readonly<Record<string, string>>;

const KERNEL: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  security: ['INPUT', 'FORWARD', 'OUTPUT'],
};

/** What `iptables-save` would print of the tables: every chain that a rule stands in is declared. */
export const dump = (tables: Tables): string =>
  Object.entries(tables).map(([table, rules]) => {
    const lines = rules.split('\n').map((line) => line.trim()).filter((line) => line !== '');
    const policy = (chain: string): string => lines.find((line) => line.startsWith(`-P ${chain} `))?.split(' ')[2] ?? 'ACCEPT';
    const users = [...new Set(lines.flatMap((line) => (/^-[AN] (\S+)/.exec(line)?.[1] ?? [])))].filter((chain) => !KERNEL[table]?.includes(chain));
    const heads = [...(KERNEL[table] ?? []).map((chain) => `:${chain} ${policy(chain)} [0:0]`), ...users.map((chain) => `:${chain} - [0:0]`)];
    return [`*${table}`, ...heads, ...lines.filter((line) => !/^-[PN] /.test(line)), 'COMMIT', ''].join('\n');
  }).join('');

export interface Asked {
  readonly state?: State;
  readonly mark?: number | 'any';
  readonly family?: Family;
  readonly settings?: Partial<Settings>;
}

/** Whether a pod behind eni+ can talk to IMDS, with these rules and no others. */
export function ask(saved: Tables | Readonly<Partial<Record<Backend, Tables>>> | string, asked: Asked = {}): Judgement {
  const family = asked.family ?? 'ipv4';
  const settings = { ...DEFAULT_SETTINGS, ...asked.settings };
  const byBackend: Readonly<Partial<Record<Backend, Tables>>> = typeof saved !== 'string' && isByBackend(saved) ? saved : {};
  const bases = typeof saved === 'string' || !isByBackend(saved)
    ? baseChainsOf(parseSave(typeof saved === 'string' ? saved : dump(saved), { family, backend: 'nft' }))
    : (['nft', 'legacy'] as const).flatMap((backend) => baseChainsOf(parseSave(dump(byBackend[backend] ?? {}), { family, backend })));
  const target = targetsOf(settings, [], [family])[0]!;
  return judge(bases, questionOf(target, asked.state ?? 'NEW', asked.mark === 'any' ? undefined : (asked.mark ?? 0), settings.interfaces));
}

const isByBackend = (saved: object): saved is Readonly<Partial<Record<Backend, Tables>>> => 'nft' in saved || 'legacy' in saved;

/** The answer in a word, and why when it is not certain: `blocked`, `open`, `unknown: doubt`. */
export const answerOf = (saved: Parameters<typeof ask>[0], asked: Asked = {}): string => {
  const judgement = ask(saved, asked);
  return judgement.answer === 'unknown' ? `unknown: ${judgement.because}` : judgement.answer;
};

export const IMDS_DROP = '-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP';
