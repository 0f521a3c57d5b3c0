import { REASONS } from '../reasons.ts';
import { visible } from '../visible.ts';
import type { Observation } from './joined-report.ts';
import type { Exchange, NetworkProbe, ProbeReport } from './report.ts';
import { podText } from './summary.ts';

/** For a person: a line a network, why below it, the answer last. */
export function probeText(report: ProbeReport): string {
  const all = [...report.control, ...report.networks];
  // Most nodes have one family: that the other goes nowhere is one line, unless it is all that there is.
  const told = all.filter((one) => one.class !== 'no-route' || all.every(({ networkNamespace, class: kind }) => networkNamespace !== one.networkNamespace || kind === 'no-route'));
  const lines = told.flatMap(networkLines);
  for (const [family, some] of Map.groupBy(all.filter((one) => !told.includes(one)), (one) => one.family)) lines.push(`no route to IMDS over ${family}: ${some.length} of ${all.filter((one) => one.family === family).length}, nothing was sent`);
  if (report.found > new Set(report.networks.map(({ networkNamespace }) => networkNamespace)).size) lines.push(`some of each kind; ${report.found} pod networks were found (--all tries every one)`);
  const hopLimits = Object.entries(report.hopLimit).map(([family, hops]) => `${hops} (${family})`);
  if (hopLimits.length > 0) lines.push(`hop limit of tokens on the wire: ${hopLimits.join(', ')}`);
  if (report.skipped.length > 0) lines.push('not tried:', ...report.skipped.map(({ networkNamespace, because }) => `  - ${networkNamespace}: ${because}`));
  lines.push(`${report.answer}: ${REASONS[report.reason].text} (${report.reason})`, ...(report.message === '' ? [] : [`  ${report.message}`]));
  return `${lines.map(visible).join('\n')}\n`;
}

/** One line for whoever asked for more than packets: `2 of 40 pod networks tried: 4 dropped, 2 no-route`. */
export function observedText(observed: Observation): string {
  if (observed.state === 'not-tried') return `not tried: ${observed.because}`;
  if (observed.networks.length === 0) return `not tried: ${observed.message}`;
  const classes = [...Map.groupBy(observed.networks, ({ class: kind }) => kind)].map(([kind, some]) => `${some.length} ${kind}`);
  const tried = new Set(observed.networks.map(({ networkNamespace }) => networkNamespace)).size;
  const hopLimits = Object.values(observed.hopLimit);
  return `sent from ${tried} of ${observed.found} pod networks: ${classes.join(', ')}${hopLimits.length > 0 ? `; hop limit of tokens ${[...new Set(hopLimits)].join(', ')}` : ''}`;
}

const CLASS_WIDTH = 13;
const INDENT = ' '.repeat(CLASS_WIDTH);

function networkLines(probe: NetworkProbe): string[] {
  const { v1, v2, family, kind, hops } = probe;
  const where = kind === 'node' ? 'the node itself' : `${probe.pods.length > 0 ? probe.pods.map(podText).join(', ') : probe.networkNamespace}, ${probe.interfaces.length > 0 ? probe.interfaces.join(', ') : kind}`;
  const away = hops === undefined || kind === 'node' ? '' : `, ${hops} ${hops === 1 ? 'hop' : 'hops'} away`;
  const why = v1.because === v2.because ? [v1.because] : [`v1 ${exchangeText(v1, probe)}`, `v2 ${exchangeText(v2, probe)}`];
  return [`${probe.class.padEnd(CLASS_WIDTH)}${where}, ${family}${away}`, ...why.map((line) => `${INDENT}${line}`)];
}

const exchangeText = (exchange: Exchange, { class: kind }: NetworkProbe): string => `${exchange.class === kind ? '' : `${exchange.class}: `}${exchange.because}`;
