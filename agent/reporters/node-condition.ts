import { type Condition, type WrittenCondition, CONDITION_TYPE, conditionPatch, isSame, starting, stopping } from '../core/kubernetes/condition.ts';
import { type NodeObject, standing, withoutTaint, written } from '../core/kubernetes/node.ts';
import { type Outcome, heartbeatAfterMs, retryAfterMs, retryAfterSeconds, spreadMs } from '../core/kubernetes/retry.ts';
import { statusMessage } from '../core/kubernetes/status-message.ts';
import type { LogLevel } from '../core/settings.ts';
import { JSON_PATCH, type KubeAnswer, type KubeRequest, STRATEGIC_MERGE } from '../effects/kube-client.ts';
import type { Clock, Timer } from '../watch/needs.ts';

export interface NodeConditionOptions {
  readonly clock: Clock;
  readonly node: string;
  readonly bootId: string;
  readonly ask: (request: KubeRequest) => Promise<KubeAnswer>;
  readonly log: (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;
  /** A taint that keeps pods away until the node is proved blocked; taken away then. */
  readonly startupTaint: string | undefined;
}

/**
 * Keeps one condition of our own Node: on change, and a heartbeat, so that a reader can tell one that nobody keeps any more. What
 * cannot be written is tried again, ever more rarely. The daemon reads its own Node and no other.
 */
export class NodeCondition {
  private readonly options: NodeConditionOptions;
  private wanted: Condition;
  /** What the server is known to have. */
  private last: WrittenCondition | undefined;
  /** Whether the server was asked what stands there, since the start or since it forgot our node. */
  private isRead = false;
  private failures = 0;
  private timer: Timer | undefined;
  private dueMs = Infinity;
  private writing: Promise<void> | undefined;
  private stopped = false;
  /** Whether this start has told that it began. */
  private hasBegun = false;
  private taintGone = false;
  /** What went wrong last, until something went right. */
  trouble: string | undefined;
  readonly outcomes = new Map<string, number>();

  constructor(options: NodeConditionOptions) {
    this.options = options;
    this.wanted = starting(options.bootId);
  }

  /** Tells first that nobody knows: what stands in the API is of another start. */
  start(): void {
    this.dueIn(spreadMs(true, this.options.clock.chance()));
  }

  report(condition: Condition): void {
    if (this.stopped || isSame(condition, this.wanted)) return;
    const isFirst = this.wanted.reason === 'AgentStarting';
    this.wanted = condition;
    // What follows the one that is under way, or is tried again, or is to be the first, follows when that is there.
    if (this.writing || this.failures > 0 || !this.hasBegun) return;
    this.dueIn(spreadMs(isFirst, this.options.clock.chance()));
  }

  /** Nobody watches from here on: a True must not outlive its proof. Waits for one try, no longer than the caller does. */
  async stop(): Promise<void> {
    this.timer?.cancel();
    this.wanted = stopping(this.options.bootId);
    await this.writing;
    this.stopped = true;
    if (this.isRead) await this.write();
  }

  /** The earlier of two wishes counts: a change does not wait for the heartbeat, nor a spread for another change. */
  private dueIn(ms: number): void {
    const at = this.options.clock.now() + ms;
    if (this.stopped || at >= this.dueMs) return;
    this.timer?.cancel();
    this.dueMs = at;
    this.timer = this.options.clock.after(ms, () => {
      this.dueMs = Infinity;
      this.writing = this.write().finally(() => (this.writing = undefined));
    });
  }

  private async write(): Promise<void> {
    const { clock } = this.options;
    const wanted = this.hasBegun || this.stopped ? this.wanted : starting(this.options.bootId);
    const outcome = await this.tryToWrite(wanted);
    const kind = outcome.is === 'refused' ? String(outcome.status) : outcome.is;
    this.outcomes.set(kind, (this.outcomes.get(kind) ?? 0) + 1);
    if (outcome.is === 'written') {
      if (this.failures > 0) this.options.log('info', 'the condition is written again', { condition: CONDITION_TYPE });
      this.failures = 0;
      this.trouble = undefined;
      this.hasBegun = true;
      if (!isSame(this.wanted, wanted)) return this.dueIn(spreadMs(wanted.reason === 'AgentStarting', clock.chance()));
      return this.dueIn(heartbeatAfterMs(clock.chance()));
    }
    this.failures += 1;
    this.dueIn(retryAfterMs(outcome, this.failures, clock.chance()));
  }

  private async tryToWrite(wanted: Condition): Promise<Outcome> {
    const { clock, node, ask } = this.options;
    const path = `/api/v1/nodes/${encodeURIComponent(node)}`;
    try {
      if (!this.isRead) {
        const there = await ask({ method: 'GET', path });
        if (there.status !== 200) return this.refused(there, `node ${node} cannot be read`);
        const before = standing(JSON.parse(there.body) as NodeObject, CONDITION_TYPE);
        this.last = before as WrittenCondition | undefined;
        this.isRead = true;
      }
      const condition = written(wanted, this.last, seconds(clock.wall(clock.now())));
      const answer = await ask({ method: 'PATCH', path: `${path}/status`, body: conditionPatch(condition), contentType: STRATEGIC_MERGE });
      if (answer.status !== 200) {
        // The Node was deleted: the next that comes under its name has nothing of ours.
        if (answer.status === 404) this.isRead = false;
        return this.refused(answer, 'the condition cannot be written');
      }
      this.last = condition;
      return wanted.status === 'True' ? await this.untaint(path) : { is: 'written' };
    } catch (error) {
      this.say(`the API server does not answer: ${error instanceof Error ? error.message : String(error)}`);
      return { is: 'unreachable' };
    }
  }

  private async untaint(path: string): Promise<Outcome> {
    const { startupTaint, ask, log } = this.options;
    if (startupTaint === undefined || this.taintGone) return { is: 'written' };
    const there = await ask({ method: 'GET', path });
    if (there.status !== 200) return this.refused(there, 'the taint cannot be read');
    const patch = withoutTaint(JSON.parse(there.body) as NodeObject, startupTaint);
    if (patch !== undefined) {
      const answer = await ask({ method: 'PATCH', path, body: patch, contentType: JSON_PATCH });
      if (answer.status !== 200) return this.refused(answer, `the taint ${startupTaint} cannot be taken away`);
      log('info', 'the node is proved blocked: its startup taint is taken away', { taint: startupTaint });
    }
    this.taintGone = true;
    return { is: 'written' };
  }

  private refused({ status, body, headers }: KubeAnswer, what: string): Outcome {
    this.say(`${what}: ${statusMessage(body) ?? `status ${status}`}`);
    const seconds = retryAfterSeconds(headers['retry-after']);
    return { is: 'refused', status, ...(seconds === undefined ? {} : { seconds }) };
  }

  private say(trouble: string): void {
    this.trouble = trouble;
    this.options.log('warn', trouble, { key: trouble });
  }
}

/** The API keeps whole seconds. */
const seconds = (time: string): string => time.replace(/\.\d+(?=Z$)/, '');
