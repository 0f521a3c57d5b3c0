import { REASONS } from './reasons.ts';

/** agent/commands/reasons.md, from the one list. */
export function reasonsPage(): string {
  const rows = Object.entries(REASONS).map(([code, { answer, text }]) => `| ${code} | ${answer} | ${text} |`);
  return ['# Reasons', '', 'Made by `make reasons` from agent/core/reasons.ts.', '', '| code | answer | meaning |', '|---|---|---|', ...rows, ''].join('\n');
}
