// A connection that was established before the rules changed: what a rule that matches only NEW packets lets live.
import type { Answer, Endpoint, RequestOptions } from './protocol.ts';
import type { Resident } from './resident.ts';

export interface Live {
  readonly from: Endpoint;
  /**
   * Another request on the same connection. After a timeout the connection is given up; from then on, and when the peer
   * has closed it, the answer is `refused`, code `connection-lost`: it never opens a second one.
   */
  request(options?: { readonly timeoutMs?: number }): Promise<Answer>;
  close(): Promise<void>;
}

let lives = 0;

export async function openLive(resident: Resident, options: RequestOptions): Promise<Live> {
  lives += 1;
  const live = lives;
  const opened = answerOf(await resident.ask({ do: 'open-live', live, options }));
  if (opened.fate !== 'reached') throw new Error(`no live connection: ${JSON.stringify(opened)}`);
  return {
    from: opened.from,
    request: async ({ timeoutMs = 2000 } = {}) => answerOf(await resident.ask({ do: 'request-live', live, timeoutMs })),
    close: async () => {
      await resident.ask({ do: 'close-live', live });
    },
  };
}

function answerOf(reply: Awaited<ReturnType<Resident['ask']>>): Answer {
  if (!('answer' in reply)) throw new Error('a client answered something else');
  return reply.answer;
}
