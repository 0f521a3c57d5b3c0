import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Kubeconfig, chooseContext } from '../core/kubernetes/kubeconfig.ts';
import { execCredential } from './kube-exec-plugin.ts';
import type { KubeTls } from './kube-client.ts';

/** Where the API server is, and who we are to it. */
export interface KubeAccess {
  /**
   * @param renew the server did not know the last: whatever was kept is read anew
   * @throws Error in words for the operator
   */
  read(renew: boolean): Promise<{ readonly server: string; readonly tls: KubeTls; readonly authorization: string | undefined }>;
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** kubelet writes a new token long before the old one ends. */
const TOKEN_KEPT_MS = 60_000;

/** Of a pod: its ServiceAccount's token, which kubelet rotates; undefined where this is no pod. */
export function inClusterAccess(env: Readonly<Record<string, string | undefined>>, directory = SERVICE_ACCOUNT): KubeAccess | undefined {
  const [host, port] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT']];
  if (!host || !port) return undefined;
  const server = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  let kept: { readonly token: string; readonly readMs: number } | undefined;
  return {
    read: async (renew) => {
      const now = performance.now();
      if (renew || !kept || now - kept.readMs > TOKEN_KEPT_MS) kept = { token: readFileSync(`${directory}/token`, 'utf8').trim(), readMs: now };
      return { server, tls: { ca: readFileSync(`${directory}/ca.crt`, 'utf8') }, authorization: `Bearer ${kept.token}` };
    },
  };
}

/** Of a kubeconfig: token, token file, client certificate, or an exec plugin (kubelet's on EKS, and a person's own). */
export function kubeconfigAccess(path: string, contextName: string | undefined, env: Readonly<Record<string, string | undefined>>): KubeAccess {
  let kept: { readonly authorization: string | undefined; readonly tls: KubeTls; readonly untilMs: number } | undefined;
  return {
    read: async (renew) => {
      const { cluster, user } = chooseContext(await readConfig(path), contextName);
      const near = (file: string): string => readFileSync(resolve(dirname(path), file), 'utf8');
      const pem = (data: string | undefined, file: string | undefined): string | undefined => (data !== undefined ? Buffer.from(data, 'base64').toString('utf8') : file === undefined ? undefined : near(file));
      const ca = pem(cluster.caData, cluster.caFile);
      const trust: KubeTls = { ...(ca === undefined ? {} : { ca }), ...(cluster.serverName === undefined ? {} : { servername: cluster.serverName }), ...(cluster.insecure ? { rejectUnauthorized: false } : {}) };
      if (user.exec) {
        if (renew || !kept || Date.now() >= kept.untilMs) {
          const got = await execCredential(user.exec, env);
          kept = { authorization: got.token === undefined ? undefined : `Bearer ${got.token}`, tls: { ...(got.cert === undefined ? {} : { cert: got.cert }), ...(got.key === undefined ? {} : { key: got.key }) }, untilMs: got.untilMs };
        }
        return { server: cluster.server, tls: { ...trust, ...kept.tls }, authorization: kept.authorization };
      }
      const [cert, key] = [pem(user.certData, user.certFile), pem(user.keyData, user.keyFile)];
      const token = user.tokenFile === undefined ? user.token : near(user.tokenFile).trim();
      return { server: cluster.server, tls: { ...trust, ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) }, authorization: token === undefined ? undefined : `Bearer ${token}` };
    },
  };
}

async function readConfig(path: string): Promise<Kubeconfig> {
  const { parse } = await import('yaml');
  let value: unknown;
  try {
    value = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Error(`the kubeconfig ${path} cannot be read: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
  }
  return (value ?? {}) as Kubeconfig;
}
