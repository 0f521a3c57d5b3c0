// A node's rules as text that can be compared: both backends, both families, and foreign nft tables.
import type { Lab } from '../lab/lab.ts';

/**
 * Leaves out counters, and what iptables-nft makes by being asked (the built-in tables and their empty chains): nothing
 * takes those away again, and they stop no packet.
 */
export async function rulesOf(lab: Pick<Lab, 'exec' | 'node'>): Promise<string> {
  const saves = ['iptables-nft-save', 'ip6tables-nft-save', 'iptables-legacy-save', 'ip6tables-legacy-save'];
  const parts = await Promise.all(saves.map(async save => `${save}\n${rules((await lab.exec(lab.node, save)).stdout)}`));
  const { stdout } = await lab.exec(lab.node, 'nft', ['list', 'tables']);
  return [...parts, 'nft', foreign(stdout)].join('\n');
}

function rules(saved: string): string {
  let table = '';
  const kept: string[] = [];
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    // `:OURS - [0:0]` is a chain that somebody made; `:INPUT ACCEPT [12:840]` is built in, and its policy counts.
    if (line.startsWith(':') && !/ ACCEPT \[/.test(line)) kept.push(`${table} ${line.replace(/ \[.*/, '')}`);
    if (line.startsWith('-A')) kept.push(`${table} ${line}`);
  }
  return kept.join('\n');
}

function foreign(tables: string): string {
  const ofIptables = /^table ip6? (raw|mangle|nat|filter|security)$/;
  return tables.split('\n').filter(line => line !== '' && !ofIptables.test(line)).join('\n');
}
