import type { RuleReport } from './report.ts';
import { placeText } from './rule-report.ts';

/** `iptables-nft filter FORWARD 2: -A FORWARD -i eni+ -j ACCEPT` */
export function describeRule(rule: RuleReport): string {
  const place = placeText({ backend: rule.backend, family: rule.family as 'ip', table: rule.table });
  return `${place} ${rule.chain}${rule.number > 0 ? ` ${rule.number}` : ''}: ${rule.rule}`;
}
