import { accessSync, constants } from 'node:fs';
import { type Backend, type Family, type Firewall, programName } from 'node-iptables';
import { ProcessFirewall } from 'node-iptables/exec';
import type { Settings } from '../core/settings.ts';

/**
 * The firewall of this node. Distributions before iptables 1.8 (Amazon Linux 2) have one backend under the plain names;
 * there `iptables-legacy-save` is `iptables-save`.
 */
export async function nodeFirewall(settings: Settings, path: string | undefined): Promise<Firewall> {
  // `iptables-legacy-restore --wait 0` waits for ever (measured, 1.8.9): a second is the shortest wait there is.
  const lockWaitSeconds = Math.max(1, settings.lockWaitSeconds);
  const options = { timeoutMs: settings.timeoutSeconds * 1000, lockWaitSeconds, ...(path === undefined ? {} : { path }) };
  const plain = new ProcessFirewall(options);
  const programs: Record<string, string> = {};
  for (const backend of ['nft', 'legacy'] as const) {
    if (isInstalled(programName('ipv4', backend, 'save'), path)) continue;
    if (!isInstalled(programName('ipv4', 'default', 'save'), path)) continue;
    if ((await plain.version('ipv4', 'default').catch(() => undefined))?.backend !== backend) continue;
    for (const family of ['ipv4', 'ipv6'] as const) Object.assign(programs, plainNames(family, backend));
  }
  return Object.keys(programs).length === 0 ? plain : new ProcessFirewall({ ...options, programs });
}

const plainNames = (family: Family, backend: Backend): Record<string, string> =>
  Object.fromEntries((['change', 'save', 'restore'] as const).map((verb) => [programName(family, backend, verb), programName(family, 'default', verb)]));

const DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];

const isInstalled = (program: string, path = ''): boolean =>
  [...DIRECTORIES, ...path.split(':')].some((directory) => directory !== '' && isExecutable(`${directory}/${program}`));

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
