import type { Answer, Reason } from '../reasons.ts';
import type { Report } from '../report.ts';
import type { ProbeReport } from './report.ts';

/** What packets did, or why none were sent. */
export type Observation = ({ readonly state: 'tried' } & ProbeReport) | { readonly state: 'not-tried'; readonly because: string };

/** What the answer rests on: a proof from the rules, packets that were sent, both, or neither. */
export type Basis = readonly ('rules' | 'packets')[];

/** What `check --output json` prints: the rules' report, and beside it what packets did. `answer` and `reason` are of both together. */
export interface JoinedReport extends Report {
  readonly basis: Basis;
  /** What the reason does not say: the doubt that is left, or the two sides of a disagreement. */
  readonly message: string;
  /** What the rules alone say; `targets` in full. */
  readonly installed: { readonly answer: Answer; readonly reason: Reason };
  readonly observed: Observation;
}
