import { type NodeEvent, eventCountPatch, eventObject } from '../core/kubernetes/events.ts';
import type { LogLevel } from '../core/settings.ts';
import { type KubeAnswer, type KubeRequest, STRATEGIC_MERGE } from '../effects/kube-client.ts';
import type { Clock } from '../watch/needs.ts';

export interface NodeEventsOptions {
  readonly clock: Clock;
  readonly node: string;
  readonly ask: (request: KubeRequest) => Promise<KubeAnswer>;
  readonly log: (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;
}

/** A rival that undoes things all night is one event that counts. */
const FOLDED_FOR_MS = 3_600_000;
/** Not more often is the same told again. */
const SHORTEST_GAP_MS = 60_000;
const MOST_KEPT = 100;

/** Events about the Node: told when something happens, never repeated by time, lost where the server does not take them. */
export class NodeEvents {
  private readonly options: NodeEventsOptions;
  private readonly kept = new Map<string, { name: string; count: number; firstMs: number; toldMs: number; pending: boolean }>();
  private numbers = 0;

  constructor(options: NodeEventsOptions) {
    this.options = options;
  }

  tell(event: NodeEvent): void {
    const now = this.options.clock.now();
    const key = `${event.reason} ${event.message}`;
    const known = this.kept.get(key);
    if (known && now - known.firstMs < FOLDED_FOR_MS) {
      known.count += 1;
      if (known.pending) return;
      known.pending = true;
      this.options.clock.after(Math.max(0, known.toldMs + SHORTEST_GAP_MS - now), () => void this.again(known));
      return;
    }
    if (this.kept.size >= MOST_KEPT) this.kept.delete(this.kept.keys().next().value!);
    this.numbers += 1;
    const name = `${this.options.node}.imds-guard.${Date.parse(this.options.clock.wall(now)).toString(16)}.${this.numbers}`;
    this.kept.set(key, { name, count: 1, firstMs: now, toldMs: now, pending: false });
    void this.send({ method: 'POST', path: '/api/v1/namespaces/default/events', body: eventObject(event, this.options.node, name, this.options.clock.wall(now)) });
  }

  private async again(known: { name: string; count: number; toldMs: number; pending: boolean }): Promise<void> {
    const now = this.options.clock.now();
    known.pending = false;
    known.toldMs = now;
    await this.send({ method: 'PATCH', path: `/api/v1/namespaces/default/events/${known.name}`, body: eventCountPatch(known.count, this.options.clock.wall(now)), contentType: STRATEGIC_MERGE });
  }

  private async send(request: KubeRequest): Promise<void> {
    const { ask, log } = this.options;
    try {
      const { status, body } = await ask(request);
      if (status >= 300) log('warn', `an event was not taken by the API server: status ${status}`, { key: `event ${status}`, body: body.slice(0, 300) });
    } catch (error) {
      log('debug', `an event was not sent: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
