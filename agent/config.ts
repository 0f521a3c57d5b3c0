import { distance } from 'fastest-levenshtein';
import * as v from 'valibot';
import { DEFAULT_SETTINGS, LOG_LEVELS, type Settings } from './core/settings.ts';
import { TAKEN_PORTS } from './core/taken-ports.ts';

/** Something the operator wrote is wrong: one clear line on stderr, exit 64, nothing changed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** IFNAMSIZ is 16 with the final NUL, and iptables counts the `+` (xtables_parse_interface). */
const pattern = v.pipe(
  v.string(),
  v.nonEmpty('is empty'),
  v.check((text) => new TextEncoder().encode(text).length <= 15, 'is longer than the 15 bytes that the kernel allows an interface name'),
  v.regex(/^[^\s/!"\\'+][^\s/!"\\']*$/, 'is no interface name or pattern'),
  v.check((text) => !text.slice(0, -1).includes('+'), 'has a `+` that is not at its end'),
);
const patterns = v.array(pattern);
/** 0 is no port, and always free. */
const port = v.pipe(
  v.number(),
  v.integer('is not a whole number'),
  v.minValue(0, 'is negative'),
  v.maxValue(65535, 'is more than 65535'),
  v.check((one) => !TAKEN_PORTS.has(one), ({ input }) => `is the port of ${TAKEN_PORTS.get(input as number)} on EKS nodes`),
);
/** No name: what /etc/hosts or a name server says must not decide who can ask. */
const address = v.pipe(v.string(), v.ip('is no IP address'));
const seconds = v.pipe(v.number(), v.minValue(0, 'is negative'), v.maxValue(3600, 'is more than an hour'));

/** RFC 1123, as the API wants names of Nodes. */
const nodeName = v.pipe(v.string(), v.regex(/^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$/, 'is no name of a Node'), v.maxLength(253, 'is longer than the 253 characters of a Node name'));
const taintKey = v.pipe(v.string(), v.regex(/^(([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/, 'is no key of a taint'));

const Schema = v.strictObject({
  interfaces: v.optional(v.pipe(patterns, v.minLength(1, 'names no interface'))),
  branchInterfaces: v.optional(patterns),
  discover: v.optional(v.boolean()),
  mode: v.optional(v.picklist(['enforce', 'observe'])),
  layout: v.optional(v.picklist(['documented', 'chain'])),
  action: v.optional(v.picklist(['drop', 'reject'])),
  guard: v.optional(v.picklist(['auto', 'plain', 'none', 'watched'])),
  backend: v.optional(v.picklist(['auto', 'nft', 'legacy'])),
  lockWaitSeconds: v.optional(v.pipe(seconds, v.integer('is not a whole number'))),
  timeoutSeconds: v.optional(v.pipe(seconds, v.minValue(1, 'is less than a second'))),
  port: v.optional(port),
  address: v.optional(address),
  metricsEnabled: v.optional(v.boolean()),
  metricsAddress: v.optional(address),
  probe: v.optional(v.boolean()),
  probeSeconds: v.optional(v.pipe(v.number(), v.integer('is not a whole number'), v.minValue(60, 'is less than 60'), v.maxValue(86_400, 'is more than a day'))),
  resyncSeconds: v.optional(v.pipe(v.number(), v.integer('is not a whole number'), v.minValue(30, 'is less than 30'), v.maxValue(86_400, 'is more than a day'))),
  logLevel: v.optional(v.picklist(LOG_LEVELS)),
  kubernetes: v.optional(v.picklist(['auto', 'none'])),
  kubeconfig: v.optional(v.string()),
  nodeName: v.optional(nodeName),
  startupTaint: v.optional(taintKey),
});
const KEYS = Object.keys(Schema.entries);

/** One place where settings come from, already as an object. */
export interface SettingsSource {
  /** As an error names it: `/etc/imds-guard/config.yaml`, `the environment`. */
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * Settings from several sources, the later ones stronger.
 *
 * @throws UsageError that names the source, the key and, for an unknown key, the nearest known one; or two settings that
 * contradict each other
 */
export function settingsFrom(sources: readonly SettingsSource[]): Settings {
  let settings: Settings = DEFAULT_SETTINGS;
  for (const { name, values } of sources) {
    const parsed = v.safeParse(Schema, values);
    if (!parsed.success) throw new UsageError(`${name}: ${issueText(parsed.issues[0])}`);
    settings = { ...settings, ...withoutUndefined(parsed.output) };
  }
  if (settings.mode === 'observe' && settings.guard === 'none') {
    throw new UsageError('mode observe and guard none do not go together: it is the guard table that counts, so nothing would be done');
  }
  if (settings.action === 'reject' && settings.guard === 'none') {
    throw new UsageError('action reject and guard none do not go together: the reset comes from the guard table, for iptables refuses REJECT in mangle');
  }
  return settings;
}

/** A config file, YAML or JSON (which is YAML). An empty file is no settings. */
export async function parseConfigFile(name: string, text: string): Promise<SettingsSource> {
  // 9 ms of start-up that a node without a config file need not pay.
  const { parse } = await import('yaml');
  let values: unknown;
  try {
    values = parse(text) ?? {};
  } catch (error) {
    throw new UsageError(`${name}: not YAML or JSON: ${String(error instanceof Error ? error.message : error).split('\n')[0]}`);
  }
  if (typeof values !== 'object' || Array.isArray(values)) throw new UsageError(`${name}: a list of \`key: value\` was expected`);
  return { name, values: values as Record<string, unknown> };
}

const VARIABLE_PREFIX = 'IMDS_GUARD_';
/** Where the config file is. */
const NOT_A_SETTING = 'IMDS_GUARD_CONFIG';

/**
 * What Kubernetes sets in every pod beside a Service named imds-guard, or imds-guard-metrics: IMDS_GUARD_METRICS_SERVICE_HOST,
 * IMDS_GUARD_PORT=tcp://10.0.0.1:80, IMDS_GUARD_PORT_80_TCP_ADDR. IMDS_GUARD_PORT is a setting as well: a number is ours.
 */
const isOfService = (name: string, text: string): boolean =>
  /_SERVICE_(HOST|PORT(_.*)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name) || (name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(text));

/** `IMDS_GUARD_LOCK_WAIT_SECONDS=5`; lists with commas. */
export function settingsOfEnvironment(env: Readonly<Record<string, string | undefined>>): SettingsSource {
  const values: Record<string, unknown> = {};
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(VARIABLE_PREFIX) || name === NOT_A_SETTING || text === undefined || isOfService(name, text)) continue;
    const key = KEYS.find((known) => variableOf(known) === name);
    if (key === undefined) throw new UsageError(`the environment: unknown variable ${name}; did you mean ${nearest(name, KEYS.map(variableOf))}?`);
    values[key] = valueOf(key, text);
  }
  return { name: 'the environment', values };
}

export const variableOf = (key: string): string => `${VARIABLE_PREFIX}${key.replace(/[A-Z]/g, '_$&').toUpperCase()}`;

function valueOf(key: string, text: string): unknown {
  if (key === 'interfaces' || key === 'branchInterfaces') return text.split(',').map((item) => item.trim()).filter((item) => item !== '');
  if (key === 'discover' || key === 'probe' || key === 'metricsEnabled') return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

export const nearest = (word: string, known: readonly string[]): string =>
  known.reduce((best, one) => (distance(word, one) < distance(word, best) ? one : best));

function issueText(issue: v.InferIssue<typeof Schema>): string {
  const path = issue.path?.map(({ key }) => String(key)).join('.') ?? '';
  if (issue.type === 'strict_object' && issue.expected === 'never') return `unknown key ${path}; did you mean ${nearest(path, KEYS)}?`;
  const shown = issue.input === undefined ? '' : ` \`${String(issue.input)}\``;
  if (issue.type === 'picklist') return `${path}${shown} is none of ${String(issue.expected).replace(/[()"]/g, '').replaceAll(' | ', ', ')}`;
  if (issue.kind === 'schema') return `${path}${shown}: expected ${issue.expected ?? 'another value'}, not ${issue.received}`;
  return `${path}${shown} ${issue.message}`;
}

const withoutUndefined = (values: v.InferOutput<typeof Schema>): Partial<Settings> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<Settings>;
