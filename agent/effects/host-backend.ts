import { realpathSync } from 'node:fs';
import { basename } from 'node:path';
import type { Backend, Firewall } from 'node-iptables';

const DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];

/**
 * The backend that the plain `iptables` stands for: mostly it is a link to xtables-nft-multi or xtables-legacy-multi,
 * and following links costs no process; else it is asked. Undefined where there is none: it only breaks a tie, and
 * that programs are missing is told where they are needed.
 */
export async function hostBackend(firewall: Firewall): Promise<Backend | undefined> {
  return linkedBackend() ?? (await firewall.version('ipv4', 'default').catch(() => undefined))?.backend;
}

function linkedBackend(): Backend | undefined {
  for (const directory of DIRECTORIES) {
    const program = target(`${directory}/iptables`);
    if (program !== undefined) return program.includes('nft') ? 'nft' : program.includes('legacy') ? 'legacy' : undefined;
  }
  return undefined;
}

function target(link: string): string | undefined {
  try {
    return basename(realpathSync(link));
  } catch {
    return undefined;
  }
}
