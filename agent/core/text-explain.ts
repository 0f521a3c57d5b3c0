import { type ExplainedStop, type Explanation, isOurs } from './explain.ts';
import { placeText } from './rule-report.ts';
import { visible } from './visible.ts';

/** The packet's way, chain by chain; `>>` stands before the rule that decides, `xx` before one that is never reached. */
export const explanationText = (explanations: readonly Explanation[]): string => explanations.map(oneText).join('\n');

function oneText(explanation: Explanation): string {
  const { packet } = explanation;
  const head = `${explanation.name}: ${explanation.answer}`;
  const who = `  packet ${packet.source}:${packet.sourcePort} in ${packet.in} -> ${packet.destination}:${packet.destinationPort} out ${packet.out}, mark ${packet.mark}, ${packet.state}`;
  const end = explanation.fate === 'passed' ? '  it passes every chain' : `  it is ${explanation.fate} there`;
  const doubt = explanation.doubtful ? ' (as far as the rules can be decided)' : '';
  return `${[head, who, ...explanation.path.flatMap((stop) => stopLines(stop, explanation)), `${end}${doubt}`].map(visible).join('\n')}\n`;
}

function stopLines(stop: ExplainedStop, explanation: Explanation): string[] {
  const place = placeText({ backend: stop.backend, family: stop.family as 'ip', table: stop.table });
  const lines = [`  ${stop.hook} ${place} ${stop.chain} (priority ${stop.priority})`];
  stop.rules.forEach((rule, at) => {
    const decides = (rule.does === 'accept' && rule.number > 0 && at === stop.rules.length - 1) || (explanation.by?.rule === rule.rule && explanation.by.chain === rule.chain && explanation.by.table === rule.table);
    const where = rule.number === 0 ? 'policy' : `${rule.chain} ${rule.number}`;
    lines.push(`  ${decides ? '>>' : '  '}   ${where}: ${rule.rule}   [${rule.does}]${isOurs(rule) ? '  (ours)' : ''}`);
  });
  for (const rule of stop.shadowed) lines.push(`  xx   ${rule.chain} ${rule.number}: ${rule.rule}   [never reached]${rule.ours ? '  (ours)' : ''}`);
  return lines;
}
