// The user data on a node with real systemd, from its first boot on: whatever is missing there, a pod that is started right after kubelet
// does not reach IMDS, at this boot and the next; where that cannot be had, there is no kubelet.
import t from 'tap';
import { expected } from '../kernel/guard.ts';
import type { Disk } from './disk.ts';
import type { Node } from './node.ts';
import { KUBELET, type NodeOs, newInstance } from './node-os.ts';
import { WRONG, diskOf, during, guarded, right, running, skip, userData } from './world.ts';

const OSES = ['al2023', 'ubuntu'] as const;
const PROGRAM = '/opt/imds-guard/imds-guard';
const FIRST_SCRIPT: Readonly<Record<NodeOs, string>> = { al2023: '/var/lib/cloud/scripts/part-001', ubuntu: '/var/lib/cloud/scripts/runcmd' };

const fetched = async (node: Node): Promise<void> => {
  await node.says(/^imds-guard: \S+ is there \(sha256 [0-9a-f]{64}\)$/);
  await running(node);
};
/** Says what is wrong; nobody waits for it. */
const unreached = (node: Node): Promise<void> => node.says(/^imds-guard: \S+ could not be fetched; trying again in 5 s$/);
const refused = async (node: Node): Promise<void> => {
  await node.says(/^imds-guard: WRONG HASH: \S+ is not the file that was meant\. It was thrown away, and not run\.$/);
  await node.says(/^imds-guard-fetch\.service: Failed with result 'exit-code'\.$/);
};

interface Case {
  readonly what: string;
  readonly serves: boolean;
  readonly unlike?: (disk: Disk) => void;
  /** What happens to the executable, at the first boot and at the next. */
  readonly first: (node: Node) => Promise<void>;
  readonly next: (node: Node) => Promise<void>;
  readonly brings: boolean;
}
const cases: readonly Case[] = [
  { what: 'all is well', serves: true, first: fetched, next: running, brings: true },
  // Otherwise they would be in place in time even where kubelet did not wait.
  { what: 'the rules take their time', serves: true, unlike: (disk) => disk.write('/etc/systemd/system/imds-guard-rules.service.d/slow.conf', '[Service]\nExecStartPre=/bin/sleep 2\n'), first: fetched, next: running, brings: true },
  { what: 'there is no network', serves: false, first: unreached, next: unreached, brings: false },
  { what: 'the file has another hash', serves: true, first: refused, next: refused, brings: false },
  { what: 'there is no nft', serves: true, unlike: (disk) => disk.without('nft'), first: fetched, next: running, brings: true },
  { what: 'there is legacy iptables alone', serves: true, unlike: legacyAlone, first: fetched, next: running, brings: true },
];

/** As on AL2: `iptables` is the legacy one, and there is no other. */
function legacyAlone(disk: Disk): void {
  disk.without('nft', '*tables-nft*', 'xtables-monitor');
  for (const family of ['iptables', 'ip6tables']) for (const part of ['', '-save', '-restore']) disk.link(`${family}-legacy${part}`, `/usr/sbin/${family}${part}`);
}

for (const os of OSES) {
  await t.test(`${os}: without user data every pod reaches IMDS`, { skip }, async (t) => {
    await during(t, diskOf(t, os), { serves: false, patienceMs: 5000 }, async (node) => {
      await node.settled();
      t.same(node.kubelet, [expected(Object.values(node.lab.pods), 'reached')]);
    });
  });

  for (const { what, serves, unlike, first, next, brings } of cases) {
    await t.test(`${os}: ${what}`, { skip }, async (t) => {
      const disk = diskOf(t, os, userData(os, first === refused ? WRONG : right()));
      unlike?.(disk);
      await during(t, disk, { serves }, async (node) => {
        await guarded(t, node, 'at the first boot');
        await first(node);
      });
      t.equal(disk.has(PROGRAM), brings, brings ? 'the executable is there' : 'no executable is there');
      await during(t, disk, { serves }, async (node) => {
        await guarded(t, node, 'after a reboot');
        await next(node);
      });
      t.equal(disk.has(PROGRAM), brings);
      if (serves) return;
      await during(t, disk, { serves: true }, async (node) => {
        await guarded(t, node, 'when the network is there again');
        await fetched(node);
      });
    });
  }

  await t.test(`${os}: twice, and on an image that has it all`, { skip }, async (t) => {
    const disk = diskOf(t, os, userData(os, right()));
    await during(t, disk, { serves: true }, async (node) => {
      await guarded(t, node, 'at the first boot');
      await fetched(node);
      const rules = await rulesOf(node);
      t.match(await node.run(FIRST_SCRIPT[os]), { exitCode: 0, stdout: /^imds-guard: set up$/m });
      t.equal(await rulesOf(node), rules, 'the second time writes no rule');
      t.match(await node.run('systemctl', 'is-active', KUBELET[os], 'imds-guard-rules.service', 'imds-guard.service'), { stdout: 'active\nactive\nactive\n' });
      await guarded(t, node, 'still, kubelet having been started once');
    });
    newInstance(disk);
    await during(t, disk, { serves: true }, async (node) => {
      await guarded(t, node, 'on a new instance');
      await running(node);
      t.notMatch(await node.journal('imds-guard-fetch.service'), /is there/, 'what is there is not fetched again');
    });
    await during(t, disk, { serves: true }, (node) => guarded(t, node, 'after its reboot'));
  });
}

// The rules script tries again for eight seconds each time, so all at once.
t.jobs = OSES.length;
const withoutIptables = (os: NodeOs): Promise<unknown> =>
  t.test(`${os}: there is no iptables, so there is no kubelet until there is`, { skip, buffered: true }, async (t) => {
    const disk = diskOf(t, os, userData(os, right()));
    const programs = ['ip*tables*', 'xtables*'];
    disk.without(...programs);
    for (const when of ['at the first boot', 'after a reboot']) {
      await during(t, disk, { serves: true }, async (node) => {
        t.equal(await node.settled(), 'degraded');
        t.same(node.kubelet, [], `${when} kubelet does not start`);
        t.match(await node.journal(), /imds-guard: FAILED: there are no rules that keep pods from IMDS[\s\S]*^Dependency failed for \S*kubelet\S*\.service/m, 'and the journal says why');
        if (when === 'at the first boot') return;
        disk.mend(...programs);
        t.match(await node.run('systemctl', 'start', 'imds-guard-rules.service'), { exitCode: 0 });
        t.match(await node.run('systemctl', 'start', KUBELET[os]), { exitCode: 0 });
        await guarded(t, node, 'when it is mended');
      });
    }
    await during(t, disk, { serves: true }, (node) => guarded(t, node, 'after a reboot'));
  });
await Promise.all(OSES.map(withoutIptables));

async function rulesOf(node: Node): Promise<string> {
  const listings = await Promise.all(['iptables', 'ip6tables'].flatMap((family) => ['mangle', 'filter'].map((table) => node.run(family, '-t', table, '-S'))));
  return listings.map(({ stdout }) => stdout).join('');
}
