// Not node:fs/promises: it brings readline, the file watchers and a dozen more, a tenth of the start-up.
import { readFileSync } from 'node:fs';
import type { Firewall } from 'node-iptables';
import { parsePlainly, type Parsed } from './cli/parse.ts';
import { OPTIONS, type CommandName } from './cli/options.ts';
import { type Command, type Context, EXIT, type Program } from './commands/context.ts';
import { type SettingsSource, UsageError, parseConfigFile, settingsFrom, settingsOfEnvironment } from './config.ts';
import { observedFromFiles } from './core/from-files.ts';
import type { Settings } from './core/settings.ts';
import { visible } from './core/visible.ts';
import { VERSION } from './version.ts';

/** Where the world is let in. start.cjs calls main() with the arguments, the environment and what it started; nothing below reads them. */
const DEFAULT_CONFIG = '/etc/imds-guard/config.yaml';

const COMMAND: Readonly<Record<CommandName, () => Promise<Command>>> = {
  apply: async () => (await import('./commands/apply.ts')).apply,
  check: async () => (await import('./commands/check.ts')).check,
  clients: async () => (await import('./commands/clients.ts')).clients,
  explain: async () => (await import('./commands/explain.ts')).explain,
  rules: async () => (await import('./commands/rules.ts')).rules,
  remove: async () => (await import('./commands/remove.ts')).remove,
  probe: async () => (await import('./commands/probe.ts')).probe,
  fleet: async () => (await import('./commands/fleet.ts')).fleet,
  userdata: async () => (await import('./commands/userdata.ts')).userdata,
  guide: async () => (await import('./commands/guide.ts')).guide,
  watch: async () => (await import('./commands/watch.ts')).watch,
  version: async () => (await import('./commands/version.ts')).version,
};

export async function main(argv: readonly string[], env: Readonly<Record<string, string | undefined>>, program: Program): Promise<number> {
  try {
    const parsed = parsePlainly(argv) ?? (await (await import('./cli/full.ts')).parseFully(argv, VERSION, print));
    if (!parsed) return 0;
    const command = await COMMAND[parsed.command]();
    return await command(await contextOf(parsed, env, program));
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`imds-guard: ${visible(error.message.split('\n')[0] ?? '')}\n`);
      return EXIT.usage;
    }
    process.stderr.write(`imds-guard: a bug: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return EXIT.crash;
  }
}

const print = (text: string): void => {
  process.stdout.write(text);
};

async function contextOf(parsed: Parsed, env: Readonly<Record<string, string | undefined>>, program: Program): Promise<Context> {
  const { values } = parsed;
  const output = (values['output'] ?? 'text') as Context['output'];
  if ((output === 'npd' || output === 'prometheus') && parsed.command !== 'check' && parsed.command !== 'apply') throw new UsageError(`--output ${output} is for check and apply`);
  if (configName(values, env) === '-' && asList(values['from']).includes('-')) throw new UsageError('standard input holds either the settings (--config -) or a ruleset (--from -), not both');
  const readSettings = async (): Promise<Settings> =>
    settingsFrom([...(await configFile(configName(values, env))), settingsOfEnvironment(env), settingsOfFlags(parsed)]);
  // What this is can be asked whatever the settings say.
  const settings = parsed.command === 'version' ? settingsFrom([]) : await readSettings();
  let firewall: Promise<Firewall> | undefined;
  const theFirewall = (): Promise<Firewall> => (firewall ??= makeFirewall(settings, env));
  return {
    settings,
    values,
    output,
    print,
    firewall: theFirewall,
    observe: async () => {
      const { observeNode } = await import('./effects/observe-node.ts');
      const { programPrinter } = await import('./effects/print-program.ts');
      return observeNode({ firewall: await theFirewall(), print: programPrinter(settings, env['PATH']), procNet: '/proc/net', cniDirectory: '/etc/cni/net.d', forWriting: parsed.command === 'apply' }, settings);
    },
    probe: async ({ all }) => (await import('./effects/probe-node.ts')).probeNode({ agent: `imds-guard/${VERSION}`, all, sparing: parsed.command === 'check', turn: Date.now() }),
    observeClients: async () => (await import('./effects/observe-clients.ts')).ClientsObserver.open(),
    untilEnd,
    eachNode: async ({ context, selector }, visit) => {
      const { clusterClient } = await import('./effects/cluster-client.ts');
      const { eachNode } = await import('./effects/kube-nodes.ts');
      const client = clusterClient(settings.kubeconfig, context, env);
      await eachNode(client, selector, visit).finally(() => client.close());
    },
    daemonRuns: async () => (await import('./effects/running-daemon.ts')).runningDaemon(),
    build: async () => (await import('./effects/this-build.ts')).thisBuild(program.billOfMaterials()),
    daemon: { self: program.self, env, reload: readSettings, onSignal },
    observeFiles: async (names, hints) => observedFromFiles(await Promise.all(names.map(readSaved)), hints),
  };
}

const configName = (values: Parsed['values'], env: Readonly<Record<string, string | undefined>>): string | undefined => (values['config'] as string | undefined) ?? env['IMDS_GUARD_CONFIG'];
const asList = (value: Parsed['values'][string]): readonly unknown[] => (Array.isArray(value) ? value : [value]);

/** How long a daemon that was told to stop may take: then it ends whatever still holds it. */
const STOP_WITHIN_MS = 1500;

function onSignal(stop: () => void, reload: () => void): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      setTimeout(() => process.exit(0), STOP_WITHIN_MS).unref();
      stop();
    });
  }
  process.on('SIGHUP', reload);
}

/** A terminal that is closed is an end too, and so is a reader that has had enough. */
function untilEnd(): AbortSignal {
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => ending.abort());
  process.stdout.on('error', () => ending.abort());
  return ending.signal;
}

async function makeFirewall(settings: Settings, env: Readonly<Record<string, string | undefined>>): Promise<Firewall> {
  const { nodeFirewall } = await import('./effects/node-firewall.ts');
  return nodeFirewall(settings, env['PATH']);
}

async function configFile(name: string | undefined): Promise<SettingsSource[]> {
  if (name === '-') return [await parseConfigFile('standard input', await settingsInput())];
  try {
    return [await parseConfigFile(name ?? DEFAULT_CONFIG, readFileSync(name ?? DEFAULT_CONFIG, 'utf8'))];
  } catch (error) {
    if (error instanceof UsageError) throw error;
    if (name === undefined && isMissing(error)) return [];
    throw new UsageError(`the config file ${name ?? DEFAULT_CONFIG} cannot be read: ${messageOf(error)}`);
  }
}

/** Read once, for it is gone then: a daemon that is told to read its settings again finds the same. */
let settingsText: string | undefined;
async function settingsInput(): Promise<string> {
  try {
    return (settingsText ??= readFileSync(0, 'utf8'));
  } catch (error) {
    // Somebody made it non-blocking, and nothing has come yet. Not by the stream from the start: that costs 10 ms.
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return (settingsText = await standardInput());
    throw new UsageError(`standard input cannot be read: ${messageOf(error)}`);
  }
}

function settingsOfFlags(parsed: Parsed): SettingsSource {
  const given = Object.entries(OPTIONS).flatMap(([name, { setting }]) => (setting && parsed.values[name] !== undefined ? [[setting, parsed.values[name]] as const] : []));
  return { name: 'the command line', values: Object.fromEntries(given) };
}

async function readSaved(name: string): Promise<{ name: string; text: string }> {
  try {
    return { name, text: name === '-' ? await standardInput() : readFileSync(name, 'utf8') };
  } catch (error) {
    throw new UsageError(`--from ${name} cannot be read: ${messageOf(error)}`);
  }
}

/** Not by /dev/stdin, which cannot be opened where standard input is a socket (ENXIO). */
async function standardInput(): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part as Buffer);
  return Buffer.concat(parts).toString('utf8');
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
