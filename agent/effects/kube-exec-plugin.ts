import { execFile } from 'node:child_process';
import type { ExecPlugin } from '../core/kubernetes/kubeconfig.ts';

export interface ExecCredential {
  readonly token?: string;
  readonly cert?: string;
  readonly key?: string;
  /** When to ask again, on the wall clock. */
  readonly untilMs: number;
}

const TIMEOUT_MS = 15_000;
const MOST_BYTES = 1024 * 1024;
/** Before its end, so that no request goes out with one that ends on the way. */
const BEFORE_END_MS = 60_000;
const WITHOUT_END_MS = 600_000;

/**
 * Asks a credential plugin (client.authentication.k8s.io): `aws eks get-token` on EKS, for kubelet and for people. Not by execa,
 * which costs a daemon 7 MiB, for a program that runs once in a quarter of an hour.
 *
 * @throws Error with what the plugin said
 */
export function execCredential({ apiVersion, command, args, env }: ExecPlugin, environment: Readonly<Record<string, string | undefined>>): Promise<ExecCredential> {
  const given = Object.fromEntries(env.map(({ name, value }) => [name, value]));
  const info = JSON.stringify({ apiVersion, kind: 'ExecCredential', spec: { interactive: false } });
  return new Promise((done, failed) => {
    execFile(command, [...args], { timeout: TIMEOUT_MS, maxBuffer: MOST_BYTES, env: { ...environment, ...given, KUBERNETES_EXEC_INFO: info } }, (error, stdout, stderr) => {
      if (error) return failed(new Error(`the credential plugin ${command} failed: ${stderr.trim().split('\n').at(-1) || error.message}`));
      try {
        const { status = {} } = JSON.parse(stdout) as { status?: Readonly<Record<string, string>> };
        const end = Date.parse(status['expirationTimestamp'] ?? '');
        done({
          ...(status['token'] === undefined ? {} : { token: status['token'] }),
          ...(status['clientCertificateData'] === undefined ? {} : { cert: status['clientCertificateData'] }),
          ...(status['clientKeyData'] === undefined ? {} : { key: status['clientKeyData'] }),
          untilMs: Number.isNaN(end) ? Date.now() + WITHOUT_END_MS : end - BEFORE_END_MS,
        });
      } catch {
        failed(new Error(`the credential plugin ${command} printed no ExecCredential`));
      }
    });
  });
}
