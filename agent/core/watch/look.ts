import type { Step } from '../plan.ts';
import type { Report } from '../report.ts';

/** Whether this instance writes, or another does and this one only looks. */
export type Role = 'watching' | 'standing-by';

/** What came of looking at the node. A look that failed is not an answer. */
export type Look =
  | { readonly ok: true; readonly report: Report; readonly steps: readonly Step[]; /** Whether the steps were only planned. */ readonly dryRun: boolean; readonly problems: readonly string[]; readonly left: readonly Step[] }
  | { readonly ok: false; readonly because: string };
