import type { IncomingHttpHeaders } from 'node:http';
import { Agent, request as ask } from 'node:https';
import type { KubeAccess } from './kube-access.ts';

export interface KubeAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers: IncomingHttpHeaders;
}

export interface KubeRequest {
  readonly method: 'GET' | 'PATCH' | 'POST';
  readonly path: string;
  readonly body?: string;
  readonly contentType?: string;
  readonly mostBytes?: number;
}

export const STRATEGIC_MERGE = 'application/strategic-merge-patch+json';
export const JSON_PATCH = 'application/json-patch+json';

/** From the first byte to the last of an answer. */
const TIMEOUT_MS = 10_000;
const MOST_BYTES = 1024 * 1024;

/**
 * Talks to one API server. A client of our own: the official one costs 35 to 51 MiB of memory, more than all the rest of the
 * daemon, and does nothing that is wanted here beside. Credentials are read again when the server does not know them
 * (401: tokens rotate), and the CA when its file changes.
 */
export class KubeClient {
  private readonly access: KubeAccess;
  private agent: { readonly tls: string; readonly agent: Agent } | undefined;

  constructor(access: KubeAccess) {
    this.access = access;
  }

  /** @throws where there is no answer: unreachable, too slow, not to be trusted, larger than it may be */
  async ask(wanted: KubeRequest): Promise<KubeAnswer> {
    const first = await this.once(wanted, false);
    return first.status === 401 ? this.once(wanted, true) : first;
  }

  close(): void {
    this.agent?.agent.destroy();
    this.agent = undefined;
  }

  private async once({ method, path, body, contentType, mostBytes = MOST_BYTES }: KubeRequest, renew: boolean): Promise<KubeAnswer> {
    const { server, tls, authorization } = await this.access.read(renew);
    const agent = this.agentFor(tls);
    return new Promise((resolve, reject) => {
      const url = new URL(path, server);
      const sent = ask(url, {
        agent, method,
        headers: {
          Accept: 'application/json', 'User-Agent': 'imds-guard',
          ...(authorization === undefined ? {} : { Authorization: authorization }),
          ...(body === undefined ? {} : { 'Content-Type': contentType ?? 'application/json', 'Content-Length': Buffer.byteLength(body) }),
        },
      });
      const late = setTimeout(() => sent.destroy(new Error(`no answer from ${url.host} within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
      sent.on('error', (error) => {
        clearTimeout(late);
        reject(error);
      });
      sent.on('response', (answer) => {
        const parts: Buffer[] = [];
        let length = 0;
        answer.on('data', (part: Buffer) => {
          length += part.length;
          if (length > mostBytes) sent.destroy(new Error(`the answer from ${url.host} is larger than ${mostBytes} bytes`));
          else parts.push(part);
        });
        answer.on('error', (error) => sent.destroy(error));
        answer.on('end', () => {
          clearTimeout(late);
          resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts).toString('utf8'), headers: answer.headers });
        });
      });
      sent.end(body);
    });
  }

  /** A new one when what it trusts, or shows, is another: the old one's connections go on under the old. */
  private agentFor(tls: KubeTls): Agent {
    const key = JSON.stringify(tls);
    if (this.agent?.tls !== key) {
      this.agent?.agent.destroy();
      this.agent = { tls: key, agent: new Agent({ keepAlive: true, maxSockets: 2, ...tls }) };
    }
    return this.agent.agent;
  }
}

/** PEM, as node:tls takes it. */
export interface KubeTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}
