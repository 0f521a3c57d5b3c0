import { exposition } from './exposition.ts';
import type { JoinedReport } from './probe/joined-report.ts';
import type { Report } from './report.ts';

const ANSWERS = ['blocked', 'open', 'unknown'] as const;

/** For the textfile collector of node_exporter: the names are those of the daemon's metrics, and mean the same. */
export function prometheusText(report: Report & Partial<Pick<JoinedReport, 'installed'>>, nowSeconds: number): string {
  const oneOf = (now: string) => ANSWERS.map((answer) => ({ labels: { answer }, value: answer === now ? 1 : 0 }));
  return exposition([
    { name: 'imds_guard_answer', type: 'gauge', help: 'Whether pods are kept from IMDS: 1 for the answer that holds now.', samples: oneOf(report.answer) },
    { name: 'imds_guard_reason_info', type: 'gauge', help: 'Why; always 1.', samples: [{ labels: { reason: report.reason }, value: 1 }] },
    { name: 'imds_guard_target_answer', type: 'gauge', help: 'What the rules say of pods behind one interface pattern, in one family: 1 for the answer that holds.', samples: report.targets.flatMap((target) => ANSWERS.map((answer) => ({ labels: { interface: target.interface, family: target.family, answer }, value: answer === target.answer ? 1 : 0 }))) },
    { name: 'imds_guard_checked_timestamp_seconds', type: 'gauge', help: 'When the answer was last proved by a look, in seconds since 1970.', samples: [{ labels: {}, value: nowSeconds }] },
  ]);
}
