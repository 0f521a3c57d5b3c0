import { metricsText } from '../core/metrics-text.ts';
import type { RequestHead } from '../core/request-head.ts';
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
  readonly body: Buffer;
}

/** Which paths a client may ask for: all of them, or `/metrics` alone. */
export type Open = 'all' | 'metrics';

/** A request that has come in whole, or one that is none. */
export type Asked = Exclude<RequestHead, { is: 'unfinished' }>;

/** Undefined for whoever asks too often. */
export type Answers = (asked: Asked, open: Open, nowMs: number) => StatusAnswer | undefined;

/** A second: so long a status is told again, whoever asks for it, and so long counts what is at most made in one. */
const SECOND_MS = 1000;
/** Far more than all who have a reason to ask, and far less than would keep the daemon from its work. */
const MOST_A_SECOND = 50;

/**
 * Method and path alone decide: a Host, a query and the rest of what a client sends are not looked at. Reading the status
 * asks the kernel, and writing it down takes longer than a repair; so that is done once a second, and the rest is copying.
 */
export function answersOf(source: StatusSource): Answers {
  const all = pathsOf(source);
  const paths: Readonly<Record<Open, Paths>> = { all, metrics: { '/metrics': all['/metrics'] } };
  const mayAnswer: Readonly<Record<Open, (nowMs: number) => boolean>> = { all: allowance(), metrics: allowance() };
  return (asked, open, nowMs) => {
    // Too cheap to be counted, and who does not answer them is started anew.
    const isProbe = asked.is === 'asked' && open === 'all' && PROBES.includes(asked.path);
    return isProbe || mayAnswer[open](nowMs) ? answerTo(asked, paths[open], nowMs) : undefined;
  };
}

const PROBES = ['/healthz', '/readyz'];

type Paths = Readonly<Record<string, (nowMs: number) => StatusAnswer>>;

function answerTo(asked: Asked, paths: Paths, nowMs: number): StatusAnswer {
  if (asked.is === 'refused') return text(asked.code, `${asked.because}\n`);
  if (asked.method !== 'GET' && asked.method !== 'HEAD') return text(405, 'GET or HEAD\n');
  const answer = Object.hasOwn(paths, asked.path) ? paths[asked.path] : undefined;
  if (!answer) return text(404, `there is ${Object.keys(paths).join(', ')}\n`);
  try {
    return answer(nowMs);
  } catch (error) {
    // Told to the one who asked: it must not end the daemon.
    return text(500, `a bug: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

function pathsOf(source: StatusSource) {
  const status = onceASecond(source.status);
  const json = onceEach((one: WatchStatus) => `${JSON.stringify(one, withoutBigint, 2)}\n`);
  const metrics = onceEach(metricsText);
  return {
    '/healthz': () => {
      const { ok, because } = source.alive();
      return ok ? text(200, 'ok\n') : text(503, `${because}\n`);
    },
    '/readyz': (nowMs) => {
      const { provedBlocked, answer, reason, message } = status(nowMs);
      return provedBlocked ? text(200, 'ok\n') : text(503, `${answer} ${reason} ${message}\n`);
    },
    '/status': (nowMs) => ({ code: 200, type: 'application/json', body: json(status(nowMs)) }),
    '/metrics': (nowMs) => ({ code: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body: metrics(status(nowMs)) }),
  } as const satisfies Paths;
}

const text = (code: number, body: string): StatusAnswer => ({ code, type: 'text/plain; charset=utf-8', body: Buffer.from(body) });

const withoutBigint = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);

function onceASecond<T>(make: () => T): (nowMs: number) => T {
  let made: { readonly atMs: number; readonly value: T } | undefined;
  return (nowMs) => {
    if (!made || nowMs - made.atMs >= SECOND_MS) made = { atMs: nowMs, value: make() };
    return made.value;
  };
}

/** Of the same value the same bytes, whose memory all who are sent them share. */
function onceEach<T>(write: (value: T) => string): (value: T) => Buffer {
  let written: { readonly of: T; readonly bytes: Buffer } | undefined;
  return (value) => {
    if (written?.of !== value) written = { of: value, bytes: Buffer.from(write(value)) };
    return written.bytes;
  };
}

function allowance(): (nowMs: number) => boolean {
  let sinceMs = -Infinity;
  let count = 0;
  return (nowMs) => {
    if (nowMs - sinceMs >= SECOND_MS) [sinceMs, count] = [nowMs, 0];
    count += 1;
    return count <= MOST_A_SECOND;
  };
}
