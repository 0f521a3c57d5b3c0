import type { Backend, Family } from 'node-iptables';
import type { Step } from '../plan.ts';
import type { Report } from '../report.ts';

/** Whether this instance writes, or another does and this one only looks. */
export type Role = 'watching' | 'standing-by';

/** What came of looking at the node. A look that failed is not an answer. */
export type Look = Looked | { readonly ok: false; readonly because: string };

/** What `apply --output json` prints, the report apart. */
export interface Looked {
  readonly ok: true;
  readonly report: Report;
  /** Whether the steps were only planned. */
  readonly dryRun: boolean;
  readonly steps: readonly Step[];
  readonly problems: readonly string[];
  readonly left: readonly Step[];
  readonly backend: Backend;
  readonly unread: readonly Family[];
}
