import { describeRule } from './rule-text.ts';
import { REASONS } from './reasons.ts';
import type { Report, TargetReport } from './report.ts';
import { observedText } from './probe/text-probe.ts';
import type { JoinedReport } from './probe/joined-report.ts';
import { visible } from './visible.ts';

/** The answer for a person: one paragraph a target, what packets did, the verdict last, where the eye is. */
export function reportText(report: Report & Partial<Pick<JoinedReport, 'observed' | 'message'>>): string {
  const lines = report.targets.flatMap(targetLines);
  for (const service of report.collateral) {
    if (service.answer === 'blocked') lines.push(`warning  ${service.address} (${service.what}) is cut off too${service.by ? `, by ${describeRule(service.by)}` : ''}`);
  }
  if (report.assumed.length > 0) lines.push('assumed:', ...report.assumed.map((text) => `  - ${text}`));
  if (report.observed) lines.push(`packets  ${observedText(report.observed)}`);
  lines.push(`${report.answer}: ${REASONS[report.reason].text} (${report.reason})`);
  if (report.message) lines.push(`${INDENT}${report.message}`);
  return `${lines.map(visible).join('\n')}\n`;
}

const INDENT = ' '.repeat(9);

function targetLines(target: TargetReport): string[] {
  return [`${target.answer.padEnd(8)} ${target.name}${target.answer === 'blocked' ? '' : `  ${target.reason}`}`, ...evidence(target).map((line) => `${INDENT}${line}`)];
}

function evidence(target: TargetReport): string[] {
  const live = target.established === target.answer ? [] : [`connections that were open before: ${target.established}`];
  switch (target.answer) {
    case 'blocked': {
      const shown = target.proof.slice(0, MOST_RULES).map((rule) => `dropped by ${describeRule(rule)}`);
      const more = target.proof.length - shown.length;
      return [...shown, ...(more > 0 ? [`and by ${more} more rules`] : []), ...live];
    }
    case 'open': {
      const { packet, path } = target.witness;
      const decisive = path.flatMap((stop) => stop.rules).filter((rule) => rule.does === 'accept');
      const passes = decisive.length === 0 ? ['no rule stops it'] : decisive.filter(({ number }) => number > 0).map((rule) => `accepted by ${describeRule(rule)}`);
      return [`${packet.source}:${packet.sourcePort} in ${packet.in} -> ${packet.destination}:${packet.destinationPort} out ${packet.out}, mark ${packet.mark}, ${packet.state}`, ...(passes.length > 0 ? passes : ['no rule stops it']), ...live];
    }
    case 'unknown':
      return [...target.doubts.slice(0, MOST_RULES).map(({ why, rule }) => (rule ? `${why}: ${describeRule(rule)}` : why)), ...live];
  }
}
const MOST_RULES = 6;

/** One line of at most 80 bytes, which is where node-problem-detector cuts. */
export function npdLine(report: Report & Partial<Pick<JoinedReport, 'message'>>): string {
  const worst = report.targets.filter(({ answer }) => answer === report.answer).map(({ name }) => name);
  const what = report.message || worst.join(', ');
  const line = visible(`${report.answer} ${report.reason}${report.answer === 'blocked' || what === '' ? '' : `: ${what}`}`);
  if (bytesOf(line) <= 79) return `${line}\n`;
  const letters = [...line];
  while (bytesOf(letters.join('')) > 76) letters.pop();
  return `${letters.join('')}...\n`;
}

const bytesOf = (text: string): number => new TextEncoder().encode(text).length;
