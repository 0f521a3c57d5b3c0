import { metricsText } from '../core/metrics-text.ts';
import type { WatchStatus } from '../core/watch-status.ts';

/** What the endpoints tell of the daemon. */
export interface StatusSource {
  readonly status: () => WatchStatus;
  /** Whether it still does its work; what it found is no part of that. */
  readonly alive: () => { readonly ok: boolean; readonly because: string };
}

export interface StatusAnswer {
  readonly code: number;
  readonly type: string;
  readonly body: string;
}

/** Which paths a client may ask for: all of them, or `/metrics` alone. */
export type Open = 'all' | 'metrics';

/** The path alone decides: a Host, a query and the rest of what a client sends are not looked at. */
export function answerTo(path: string, open: Open, source: StatusSource): StatusAnswer {
  const paths = open === 'all' ? ALL : METRICS;
  const answer = Object.hasOwn(paths, path) ? paths[path] : undefined;
  return answer ? answer(source) : text(404, `there is ${Object.keys(paths).join(', ')}\n`);
}

type Paths = Readonly<Record<string, (source: StatusSource) => StatusAnswer>>;

const METRICS: Paths = { '/metrics': ({ status }) => ({ code: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body: metricsText(status()) }) };

const ALL: Paths = {
  '/healthz': ({ alive }) => {
    const { ok, because } = alive();
    return ok ? text(200, 'ok\n') : text(503, `${because}\n`);
  },
  '/readyz': ({ status }) => {
    const { provedBlocked, answer, reason, message } = status();
    return provedBlocked ? text(200, 'ok\n') : text(503, `${answer} ${reason} ${message}\n`);
  },
  '/status': ({ status }) => ({ code: 200, type: 'application/json', body: `${JSON.stringify(status(), withoutBigint, 2)}\n` }),
  ...METRICS,
};

export const text = (code: number, body: string): StatusAnswer => ({ code, type: 'text/plain; charset=utf-8', body });

const withoutBigint = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);
