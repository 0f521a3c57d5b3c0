/** A kubeconfig as the file has it (client-go, clientcmd/api/v1), as far as it is used. Nothing in it is trusted to be there. */
export interface Kubeconfig {
  readonly 'current-context'?: string;
  readonly contexts?: readonly { readonly name?: string; readonly context?: { readonly cluster?: string; readonly user?: string } }[];
  readonly clusters?: readonly { readonly name?: string; readonly cluster?: Readonly<Record<string, unknown>> }[];
  readonly users?: readonly { readonly name?: string; readonly user?: Readonly<Record<string, unknown>> }[];
}

export interface ChosenContext {
  readonly cluster: { readonly server: string; readonly caData?: string; readonly caFile?: string; readonly serverName?: string; readonly insecure: boolean };
  readonly user: {
    readonly token?: string; readonly tokenFile?: string;
    readonly certData?: string; readonly certFile?: string; readonly keyData?: string; readonly keyFile?: string;
    readonly exec?: ExecPlugin;
  };
}

export interface ExecPlugin {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
}

/** @throws Error that says what is missing, for the operator */
export function chooseContext(config: Kubeconfig, wanted?: string): ChosenContext {
  const name = wanted ?? config['current-context'];
  if (!name) throw new Error('the kubeconfig names no current-context: give --context');
  const context = config.contexts?.find((one) => one.name === name)?.context;
  if (!context) throw new Error(`the kubeconfig has no context ${name}; there are ${config.contexts?.map((one) => one.name).join(', ') || 'none'}`);
  const cluster = config.clusters?.find((one) => one.name === context.cluster)?.cluster;
  const server = text(cluster, 'server');
  if (!cluster || server === undefined) throw new Error(`the kubeconfig has no server for the cluster ${context.cluster}`);
  const user = config.users?.find((one) => one.name === context.user)?.user ?? {};
  return {
    cluster: { server, ...optional(cluster, { caData: 'certificate-authority-data', caFile: 'certificate-authority', serverName: 'tls-server-name' }), insecure: cluster['insecure-skip-tls-verify'] === true },
    user: {
      ...optional(user, { token: 'token', tokenFile: 'tokenFile', certData: 'client-certificate-data', certFile: 'client-certificate', keyData: 'client-key-data', keyFile: 'client-key' }),
      ...(isObject(user['exec']) ? { exec: execOf(user['exec']) } : {}),
    },
  };
}

function execOf(exec: Readonly<Record<string, unknown>>): ExecPlugin {
  const command = text(exec, 'command');
  if (command === undefined) throw new Error('the exec plugin of the kubeconfig names no command');
  return {
    apiVersion: text(exec, 'apiVersion') ?? 'client.authentication.k8s.io/v1',
    command,
    args: list(exec['args']).filter((one) => typeof one === 'string'),
    env: list(exec['env']).flatMap((one) => (isObject(one) && text(one, 'name') !== undefined ? [{ name: text(one, 'name')!, value: text(one, 'value') ?? '' }] : [])),
  };
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const text = (from: Readonly<Record<string, unknown>> | undefined, key: string): string | undefined => (typeof from?.[key] === 'string' && from[key] !== '' ? from[key] : undefined);

function optional<Key extends string>(from: Readonly<Record<string, unknown>>, names: Readonly<Record<Key, string>>): { readonly [K in Key]?: string } {
  return Object.fromEntries(Object.entries<string>(names).flatMap(([key, name]) => (text(from, name) === undefined ? [] : [[key, text(from, name)]]))) as { readonly [K in Key]?: string };
}
