// A real kube-apiserver with a real etcd, on this network's loopback. Three seconds, 320 MiB: one for a test file.
//
// No kubelet, no scheduler and no controller runs: an object is what it was written to be, and nobody changes it.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { binary, type BinaryName } from './binaries.ts';
import { makeDependents } from './dependents.ts';
import { asker, granted, type Answer, type Ask } from './request.ts';

export interface TokenWish {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The token dies with this pod, and names the node that the pod is bound to. */
  readonly pod?: string;
  /** Without a pod: dies with this node, and names it. */
  readonly node?: string;
  /** The server grants no less than ten minutes. */
  readonly expirationSeconds?: number;
}

export interface ApiServer {
  readonly url: string;
  readonly port: number;
  /** Certificate and key of the server. The certificate's issuer is in the file, so clients are given it as their CA. */
  readonly caFile: string;
  readonly keyFile: string;
  readonly adminToken: string;
  readonly admin: Ask;
  /** The same as somebody else. */
  as(token: string): Ask;
  /** As the kubelet would ask for it (TokenRequest). The service account, and the pod or the node, must be there. */
  tokenFor(wish: TokenWish): Promise<string>;
  /** What the kubelet of a node named in the options shows: system:node:<name>, with what Node authorization grants it. */
  kubeletToken(node: string): string;
  readonly pids: { readonly etcd: number; readonly server: number };
  /** Resolves when both are dead and nothing of them is left. */
  stop(): Promise<void>;
}

export interface ApiServerOptions {
  /** Names of nodes whose kubelets have credentials. */
  readonly kubelets?: readonly string[];
}

const askAgainMs = 50;
const readyWithinMs = 60_000;

/** Ready when it says so itself. Rejects where a program is missing: `missing('etcd', 'kube-apiserver')` is asked before. */
export async function startApiServer({ kubelets = [] }: ApiServerOptions = {}): Promise<ApiServer> {
  const [etcd, kubeApiserver] = [await programOf('etcd'), await programOf('kube-apiserver')];
  const dependents = makeDependents();
  const inFolder = (name: string): string => join(dependents.folder, name);
  const [clientPort, peerPort, port] = await freePorts();
  const adminToken = randomToken();
  const kubeletTokens = new Map(kubelets.map(node => [node, randomToken()]));
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const stop = async (): Promise<void> => {
    agent.destroy();
    await dependents.end();
  };

  try {
    // Service accounts' tokens are signed with it.
    writeFileSync(inFolder('sa.key'), generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'sec1', format: 'pem' }));
    writeFileSync(inFolder('tokens.csv'), tokensFile(adminToken, kubeletTokens));
    const storage = dependents.start('etcd', etcd, [
      '--data-dir=etcd',
      `--listen-client-urls=http://127.0.0.1:${clientPort}`,
      `--advertise-client-urls=http://127.0.0.1:${clientPort}`,
      `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
      '--unsafe-no-fsync',
      '--log-level=warn',
    ]);
    const server = dependents.start('kube-apiserver', kubeApiserver, [
      `--etcd-servers=http://127.0.0.1:${clientPort}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1', // it looks for a default route otherwise, and a sandbox has none
      // Of nobody: a sandbox has no default route to guess from, and no endpoints are kept.
      '--advertise-address=192.0.2.1',
      `--secure-port=${port}`,
      '--cert-dir=certificates',
      '--token-auth-file=tokens.csv',
      '--service-account-key-file=sa.key',
      '--service-account-signing-key-file=sa.key',
      '--service-account-issuer=https://kubernetes.default.svc',
      '--service-cluster-ip-range=10.96.0.0/16',
      // As on EKS.
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      '--allow-privileged=true',
      // It waits for a controller that makes an account called default in each namespace.
      '--disable-admission-plugins=ServiceAccount',
      '--endpoint-reconciler-type=none',
    ]);
    const [caFile, keyFile] = [inFolder('certificates/apiserver.crt'), inFolder('certificates/apiserver.key')];
    const url = `https://127.0.0.1:${port}`;
    const givenUp = new AbortController();
    await Promise.race([untilReady(url, caFile, adminToken, agent, givenUp.signal), storage.ended, server.ended]).finally(() => givenUp.abort());
    const as = (token: string): Ask => asker(url, readFileSync(caFile, 'utf8'), token, agent);
    const admin = as(adminToken);
    return {
      url,
      port,
      caFile,
      keyFile,
      adminToken,
      admin,
      as,
      tokenFor: wish => tokenFor(admin, wish),
      kubeletToken: node => {
        const token = kubeletTokens.get(node);
        if (token === undefined) throw new Error(`the server was started without a kubelet of ${node}`);
        return token;
      },
      pids: { etcd: storage.pid, server: server.pid },
      stop,
    };
  } catch (error) {
    await stop();
    throw new Error('the API server did not start', { cause: error });
  }
}

async function programOf(name: BinaryName): Promise<string> {
  const found = await binary(name);
  if ('missing' in found) throw new Error(found.missing);
  return found.program;
}

const randomToken = (): string => randomBytes(16).toString('hex');

/** `token,user,uid,"group,group"` */
function tokensFile(adminToken: string, kubelets: ReadonlyMap<string, string>): string {
  const rows = [`${adminToken},admin,admin,"system:masters"`, ...[...kubelets].map(([node, token]) => `${token},system:node:${node},${node},"system:nodes"`)];
  return rows.map(row => `${row}\n`).join('');
}

/** All at once, so that they differ. Should another program take one meanwhile, the server says so and does not start. */
async function freePorts(): Promise<readonly [number, number, number]> {
  const ports: number[] = [];
  const servers = [1, 2, 3].map(() => createServer().listen(0, '127.0.0.1'));
  for (const server of servers) {
    if (!server.listening) await once(server, 'listening');
    ports.push((server.address() as AddressInfo).port);
  }
  for (const server of servers) server.close();
  await Promise.all(servers.map(server => once(server, 'close')));
  const [first = 0, second = 0, third = 0] = ports;
  return [first, second, third];
}

/** It tells nobody when it is ready, so it is asked again and again. */
async function untilReady(url: string, caFile: string, token: string, agent: Agent, givenUp: AbortSignal): Promise<void> {
  const deadline = performance.now() + readyWithinMs;
  let last: unknown = 'it made no certificate';
  while (performance.now() < deadline && !givenUp.aborted) {
    if (existsSync(caFile)) {
      const answer: Answer | Error = await asker(url, readFileSync(caFile, 'utf8'), token, agent)('GET', '/readyz').catch((error: Error) => error);
      if (!(answer instanceof Error) && answer.text === 'ok') return;
      last = answer instanceof Error ? answer : answer.text;
    }
    await new Promise(later => setTimeout(later, askAgainMs));
  }
  throw new Error(`not ready after ${readyWithinMs} ms; the last: ${String(last)}`);
}

async function tokenFor(admin: Ask, { namespace, serviceAccount, pod, node, expirationSeconds = 3600 }: TokenWish): Promise<string> {
  const bound = pod !== undefined ? await boundTo(admin, 'Pod', `/api/v1/namespaces/${namespace}/pods/${pod}`) : node !== undefined ? await boundTo(admin, 'Node', `/api/v1/nodes/${node}`) : undefined;
  const { status } = await granted(
    admin('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds, ...(bound === undefined ? {} : { boundObjectRef: bound }) },
    }),
  );
  return status.token as string;
}

async function boundTo(admin: Ask, kind: 'Pod' | 'Node', path: string): Promise<unknown> {
  const { metadata } = await granted(admin('GET', path));
  return { apiVersion: 'v1', kind, name: metadata.name, uid: metadata.uid };
}
