import { visible } from '../visible.ts';
import { ANY_CLIENT } from './known-add-ons.ts';
import { type NodeClient, podName } from './node-clients.ts';
import type { Client, ClientsReport } from './report.ts';

/** The report for a person: who asked, what breaks and what to do, the conclusion last, where the eye is. */
export function clientsText(report: ClientsReport): string {
  const { clients, nodeClients, uncounted, remarks } = report;
  const lines = clients.length === 0 ? [] : clientLines(clients);
  if (nodeClients.length > 0) lines.push('on the node itself, where no rule of ours stops anybody:', ...table(nodeClients.map(nodeRow)).map((line) => `  ${line}`));
  for (const { pods, network, interfaces } of uncounted) lines.push(`not counted, for its packets meet no rule of this node: ${pods.map(podName).join(' or ') || network} (${interfaces.join(', ')})`);
  lines.push(...remarks.map((remark) => `note: ${remark}`), ...conclusionLines(report.conclusion));
  return `${lines.map(visible).join('\n')}\n`;
}

function clientLines(clients: readonly Client[]): string[] {
  const [head, ...rows] = table([['POD', 'VERSION', '>CONNECTIONS', '>PUTS', '>GETS', 'LAST SEEN', 'FROM'], ...clients.map(clientRow)]);
  const lines = clients.flatMap((client, at) => [rows[at]!, ...detailLines(client).map((line) => `  ${line}`)]);
  const others = clients.some(({ advice }) => advice !== undefined && advice.what === undefined);
  return [head!, ...lines, ...(others ? [`for any other pod: ${ANY_CLIENT}`] : [])];
}

const clientRow = ({ pods, present, interfaces, version, doubt, attempts, puts, gets, lastSeen, sources, moreSources }: Client): string[] => [
  `${pods.map(podName).join(' or ') || `${interfaces.join(' ')}, of no pod that is known`}${pods.length > 0 && !present ? ' (gone)' : ''}`,
  version === 'attempts-only' ? '-' : `${version}${doubt === undefined ? '' : '?'}`,
  `>${attempts}`,
  `>${puts}`,
  `>${gets}`,
  lastSeen ?? '-',
  `${sources.join(' ') || '-'}${moreSources > 0 ? ` and ${moreSources} more` : ''}`,
];

function detailLines({ version, doubt, advice }: Client): string[] {
  const unsure = version === 'v1' && doubt !== undefined ? [doubt] : [];
  return advice?.what === undefined ? unsure : [...unsure, `${advice.what}: ${advice.breaks ?? ''}`, `do: ${advice.fix}`];
}

const nodeRow = ({ is, name, attempts, lastSeen, processes }: NodeClient): string[] => [
  `${name}${{ unit: '', pod: ' (hostNetwork)', cgroup: '', gone: ', which is gone', unknown: ', which is not in sight' }[is]}`,
  attempts === undefined ? '' : `${attempts} ${attempts === 1 ? 'connection' : 'connections'}`,
  lastSeen === undefined ? '' : `last ${lastSeen}`,
  processes.length === 0 ? '' : `connected now: ${processes.map((one) => `${one.name} (${one.pid})`).join(', ')}`,
];

function conclusionLines(conclusion: ClientsReport['conclusion']): string[] {
  switch (conclusion.question) {
    case 'who-is-refused':
      return [`refused: ${conclusion.answer === 'nobody' ? 'nobody; ' : ''}${conclusion.because}`];
    case 'safe-to-block':
      return [`safe to block? ${conclusion.answer}: ${conclusion.because}`, ...(conclusion.todo === undefined ? [] : [`  do: ${conclusion.todo}`])];
  }
}

/** Columns, aligned; a cell that begins with `>` to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const shown = rows.map((row) => row.map(visible));
  const textOf = (cell: string): string => cell.replace(/^>/, '');
  const widths = (shown[0] ?? []).map((_, column) => Math.max(...shown.map((row) => textOf(row[column] ?? '').length)));
  return shown.map((row) => row.map((cell, column) => (cell.startsWith('>') ? textOf(cell).padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ').trimEnd());
}
