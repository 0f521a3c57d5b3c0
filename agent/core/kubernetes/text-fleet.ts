import { visible } from '../visible.ts';
import type { Fleet, FleetNode } from './fleet.ts';

/** So many lines of nodes that are well tell nobody anything. */
const MOST_BLOCKED = 20;

export function fleetText({ answer, totals, leftOut, nodes }: Fleet, all: boolean): string {
  const blocked = nodes.filter((node) => node.answer === 'blocked');
  const shown = all ? nodes : [...nodes.filter((node) => node.answer !== 'blocked'), ...blocked.slice(0, MOST_BLOCKED)];
  const width = (of: (node: FleetNode) => string): number => Math.max(0, ...shown.map((node) => of(node).length));
  const [names, reasons] = [width(({ name }) => name), width(({ reason }) => reason)];
  const lines = shown.map((node) => `${node.answer.padEnd(8)} ${node.name.padEnd(names)}  ${ageText(node).padStart(4)}  ${node.reason.padEnd(reasons)}${node.answer === 'blocked' ? '' : `  ${node.message.slice(0, 160)}`}`.trimEnd());
  if (shown.length < nodes.length) lines.push(`… and ${nodes.length - shown.length} more that are blocked (--all shows each)`);
  const out = leftOut > 0 ? `; ${leftOut} without IMDS or Linux left out` : '';
  lines.push(`${answer}: ${totals.blocked} blocked, ${totals.open} open, ${totals.unknown} unknown of ${nodes.length} nodes${out}`);
  return `${lines.map(visible).join('\n')}\n`;
}

/** Since the last heartbeat: `40s`, `7m`, `3h`, `12d`. */
function ageText({ ageSeconds }: FleetNode): string {
  if (ageSeconds === undefined) return '-';
  const [size, unit] = ([[86_400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']] as const).find(([seconds]) => ageSeconds >= seconds) ?? [1, 's'];
  return `${Math.floor(ageSeconds / size)}${unit}`;
}
