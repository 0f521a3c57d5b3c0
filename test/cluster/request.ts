// One request to an API server, and its answer.
import type { IncomingHttpHeaders } from 'node:http';
import { Agent, request } from 'node:https';

export interface Answer {
  readonly status: number;
  /** An object of Kubernetes; empty where the answer is no JSON. */
  readonly body: Readonly<Record<string, any>>;
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
}

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Ask = (method: Method, path: string, body?: unknown, headers?: Readonly<Record<string, string>>) => Promise<Answer>;

const longestMs = 30_000;

/** Patches are strategic merges unless a header says otherwise. Rejects only when there is no answer. */
export function asker(url: string, ca: string, token: string, agent: Agent): Ask {
  return (method, path, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const json = body === undefined ? undefined : JSON.stringify(body);
      const asked = request(
        `${url}${path}`,
        {
          method,
          agent,
          ca,
          headers: {
            authorization: `Bearer ${token}`,
            accept: 'application/json',
            ...(json === undefined ? {} : { 'content-type': method === 'PATCH' ? 'application/strategic-merge-patch+json' : 'application/json', 'content-length': Buffer.byteLength(json) }),
            ...headers,
          },
          signal: AbortSignal.timeout(longestMs),
        },
        response => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', piece => (text += piece));
          response.on('error', reject);
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body: parsed(text), text, headers: response.headers }));
        },
      );
      asked.on('error', reject);
      asked.end(json);
    });
}

function parsed(text: string): Answer['body'] {
  try {
    return JSON.parse(text) as Answer['body'];
  } catch {
    return {};
  }
}

/** What an answer brings, where a test takes it for granted. */
export async function granted(answer: Promise<Answer>): Promise<Answer['body']> {
  const { status, body, text } = await answer;
  if (status < 200 || status > 299) throw new Error(`the API server answered ${status}: ${body['message'] ?? text}`);
  return body;
}
