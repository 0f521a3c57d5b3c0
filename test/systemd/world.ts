// A node with real systemd for a test: its disk, its user data, its boots, and what must be so in each.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Test } from 'tap';
import { executable, noExecutable, run } from '../executable/executables.ts';
import { expected, fates } from '../kernel/guard.ts';
import { JOINING } from '../userdata/renderings.ts';
import { debian } from './debian.ts';
import { Disk } from './disk.ts';
import { type Node, PORT, boot } from './node.ts';
import { type NodeOs, install } from './node-os.ts';

const made = debian();
/** A loud reason, or false. */
export const skip: string | false = 'missing' in made ? `NO SYSTEMD: ${made.missing}` : noExecutable;

export const right = (): string => createHash('sha256').update(readFileSync(executable)).digest('hex');
export const WRONG = '0'.repeat(64);

/** As the executable that is to be fetched prints it. */
export function userData(os: NodeOs, sha256: string): string {
  const joining = os === 'ubuntu' ? ['--api-server', JOINING.apiServer, '--cluster-ca', JOINING.clusterCa] : [];
  const { status, stdout, stderr } = run([executable, 'userdata', '--os', os, '--cluster', 'example', '--executable-url', `http://127.0.0.1:${PORT}/imds-guard`, '--executable-sha256', sha256, ...joining]);
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

export function diskOf(t: Test, os: NodeOs, text?: string): Disk {
  if ('missing' in made) throw new Error(made.missing);
  const disk = new Disk(made.root);
  t.teardown(() => disk.remove());
  install(disk, os, text);
  return disk;
}

/** Boots, looks, and takes the power away. */
export async function during(t: Test, disk: Disk, { serves, patienceMs }: { readonly serves: boolean; readonly patienceMs?: number }, look: (node: Node) => Promise<void>): Promise<void> {
  const node = await boot(disk, { ...(serves ? { serves: executable } : {}), ...(patienceMs === undefined ? {} : { patienceMs }) });
  try {
    await look(node);
  } catch (error) {
    t.comment((await node.journal()).slice(-6000));
    throw error;
  } finally {
    await node.powerOff();
  }
}

/** Everybody, at the moment kubelet started, and now. */
export async function guarded(t: Test, node: Node, when: string): Promise<void> {
  await node.settled();
  const pods = Object.values(node.lab.pods);
  t.same(node.kubelet, [expected(pods, 'timeout')], `${when}: kubelet starts, and no pod reaches IMDS`);
  t.same(await fates(node.lab, ['node', ...pods]), expected(pods, 'timeout'), `${when}: nor later`);
}

/** Told by Type=notify, and proved by itself; `times` of this boot. */
export async function running(node: Node, times = 1): Promise<void> {
  await node.says(/^(Started|Restarted) imds-guard\.service/, { times });
  await node.says(/"msg":"pods and IMDS: blocked"/, { times });
}
