import { readFileSync } from 'node:fs';
import { type Condition, conditionOf } from '../core/kubernetes/condition.ts';
import { nodeOfSelf } from '../core/kubernetes/self.ts';
import { retryAfterMs } from '../core/kubernetes/retry.ts';
import { eventOfCondition, eventOfOverwrite } from '../core/kubernetes/events.ts';
import type { LogLevel, Settings } from '../core/settings.ts';
import type { WatchStatus } from '../core/watch-status.ts';
import { type KubeAccess, inClusterAccess, kubeconfigAccess } from '../effects/kube-access.ts';
import { KubeClient } from '../effects/kube-client.ts';
import type { Clock, Timer } from '../watch/needs.ts';
import { NodeCondition } from './node-condition.ts';
import { NodeEvents } from './node-events.ts';

/** What is told of, without what costs to ask. */
export type News = Pick<WatchStatus, 'role' | 'answer' | 'reason' | 'message' | 'basis' | 'overwrites'>;

export interface KubernetesOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly settings: Pick<Settings, 'kubernetes' | 'kubeconfig' | 'nodeName' | 'startupTaint'>;
  readonly clock: Clock;
  readonly log: (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;
  readonly news: () => News;
}

export interface KubernetesReporter {
  stop(): Promise<void>;
  /** For the status: how the writing goes. */
  state(): NonNullable<WatchStatus['kubernetes']>;
}

/** The writing is spread over half a minute anyhow; before the first answer, somebody may wait for it. */
const LOOK_MS = 5000;
const FIRST_LOOK_MS = 1000;

/** Tells the API server, where there is one for us; undefined, and why in the log, where there is none. */
export function startKubernetes(options: KubernetesOptions): KubernetesReporter | undefined {
  const { settings, env, clock, log } = options;
  const access = accessOf(settings, env);
  if (access === undefined) return undefined;
  const client = new KubeClient(access);
  let timer: Timer | undefined;
  let named: Reporting | undefined;
  let trouble: string | undefined;
  let failures = 0;
  const begin = (node: string): void => {
    trouble = undefined;
    named = report(options, client, node);
  };
  /** The API server knows who we are: of kubelet's credentials, and of a pod's token, that is the name of the node. */
  const askName = async (): Promise<void> => {
    try {
      const { status, body } = await client.ask({ method: 'POST', path: '/apis/authentication.k8s.io/v1/selfsubjectreviews', body: SELF_SUBJECT_REVIEW });
      const node = status === 201 ? nodeOfSelf(body) : undefined;
      if (node !== undefined) return begin(node);
      trouble = `the name of this node is not known: the API server does not tell it of these credentials (${status}); set nodeName`;
    } catch (error) {
      trouble = `the API server does not answer: ${error instanceof Error ? error.message : String(error)}`;
    }
    log('warn', trouble, { key: trouble });
    failures += 1;
    timer = clock.after(retryAfterMs({ is: 'unreachable' }, failures, clock.chance()), () => void askName());
  };
  if (settings.nodeName === '') void askName();
  else begin(settings.nodeName);
  return {
    stop: async () => {
      timer?.cancel();
      await named?.stop();
      client.close();
    },
    state: () => named?.state() ?? { node: '', written: {}, ...(trouble === undefined ? {} : { trouble }) },
  };
}

const SELF_SUBJECT_REVIEW = JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' });

interface Reporting {
  stop(): Promise<void>;
  state(): NonNullable<WatchStatus['kubernetes']>;
}

function report({ settings, clock, log, news }: KubernetesOptions, client: KubeClient, node: string): Reporting {
  const ask: KubeClient['ask'] = (request) => client.ask(request);
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const condition = new NodeCondition({ clock, node, bootId, ask, log, startupTaint: settings.startupTaint === '' ? undefined : settings.startupTaint });
  const events = new NodeEvents({ clock, node, ask, log });
  let told: Condition['status'] | undefined;
  let overwritesSeen: string | undefined = news().overwrites.at(-1)?.at;
  let started = false;
  let timer: Timer | undefined;

  const look = (): void => {
    const now = news();
    // One that stands by leaves the condition to who watches.
    if (now.role === 'watching') {
      if (!started) condition.start();
      started = true;
      const is = conditionOf(now, bootId);
      if (now.reason !== 'NotLookedYet') {
        condition.report(is);
        if (told !== is.status && (told !== undefined || is.status !== 'True')) events.tell(eventOfCondition(is));
        told = is.status;
      }
      for (const overwrite of now.overwrites.filter(({ at }) => overwritesSeen === undefined || at > overwritesSeen)) events.tell(eventOfOverwrite(overwrite));
      overwritesSeen = now.overwrites.at(-1)?.at ?? overwritesSeen;
    }
    timer = clock.after(told === undefined ? FIRST_LOOK_MS : LOOK_MS, look);
  };
  look();
  return {
    stop: async () => {
      timer?.cancel();
      if (started) await condition.stop();
    },
    state: () => ({ node, written: Object.fromEntries(condition.outcomes), ...(condition.trouble === undefined ? {} : { trouble: condition.trouble }) }),
  };
}

function accessOf({ kubernetes, kubeconfig }: KubernetesOptions['settings'], env: KubernetesOptions['env']): KubeAccess | undefined {
  if (kubernetes === 'none') return undefined;
  return kubeconfig === '' ? inClusterAccess(env) : kubeconfigAccess(kubeconfig, undefined, env);
}
