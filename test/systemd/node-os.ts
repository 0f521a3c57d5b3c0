// What of a node's operating system decides when kubelet starts: cloud-init and kubelet, by stand-ins with the real ones' units.
import { parse } from 'yaml';
import type { Disk } from './disk.ts';

export type NodeOs = 'al2023' | 'ubuntu';

export const KUBELET: Readonly<Record<NodeOs, string>> = { al2023: 'kubelet.service', ubuntu: 'snap.kubelet-eks.daemon.service' };

/** Puts the operating system on a disk, and for its first boot the user data. Without, kubelet starts as it does today. */
export function install(disk: Disk, os: NodeOs, userData?: string): void {
  disk.write(`/etc/systemd/system/${KUBELET[os]}`, kubeletUnit);
  disk.write('/etc/systemd/system/cloud-final.service', cloudFinalUnit);
  disk.link('../cloud-final.service', wantedAtBoot(disk, 'cloud-final.service'));
  disk.write('/var/lib/cloud/run', onceAnInstance, 0o755);
  switch (os) {
    case 'al2023':
      disk.write('/etc/systemd/system/nodeadm-run.service', nodeadmRunUnit);
      disk.link('../nodeadm-run.service', wantedAtBoot(disk, 'nodeadm-run.service'));
      for (const [at, text] of shellParts(userData ?? '').entries()) disk.write(`/var/lib/cloud/scripts/part-00${at + 1}`, text, 0o755);
      return;
    case 'ubuntu':
      disk.write('/etc/eks/bootstrap.sh', bootstrap, 0o755);
      return cloudConfig(disk, userData);
  }
}

/** For cloud-init another instance than the last boot's, as where an image was made of the disk: it does everything again. */
export const newInstance = (disk: Disk): void => disk.write('/var/lib/cloud/done', '');

function wantedAtBoot(disk: Disk, unit: string): string {
  disk.write('/etc/systemd/system/multi-user.target.wants/.keep', '');
  return `/etc/systemd/system/multi-user.target.wants/${unit}`;
}

/** It tells when it was started, and what pods get then is looked at before it counts as started. `sleep` is the kubelet. */
const kubeletUnit = `[Unit]
Description=Stand-in for kubelet
After=network-online.target

[Service]
# As AL2023 has it; not required here, so that nothing but the rules can hold kubelet.
ExecStartPre=-/sbin/iptables -P FORWARD ACCEPT -w 5
ExecStart=/bin/sleep infinity
ExecStartPost=/usr/bin/curl --silent --fail --max-time 30 --unix-socket /run/lab/kubelet http://kubelet/started
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`;

/** Runs scripts of user data. */
const cloudFinalUnit = `[Unit]
Description=Stand-in for cloud-init's last stage
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/var/lib/cloud/run

[Install]
WantedBy=multi-user.target
`;

/** One that fails does not keep those behind it. */
const onceAnInstance = `#!/bin/sh
if test -s /var/lib/cloud/done; then exit 0; fi
echo done >/var/lib/cloud/done
failed=0
for script in /var/lib/cloud/scripts/*; do if test -x "$script"; then "$script" || failed=1; fi; done
exit $failed
`;

/** AL2023: at every boot nodeadm starts kubelet, which is not enabled. */
const nodeadmRunUnit = `[Unit]
Description=Stand-in for nodeadm
After=cloud-final.service

[Service]
Type=oneshot
ExecStart=/usr/bin/systemctl start kubelet.service

[Install]
WantedBy=multi-user.target
`;

/** Ubuntu: at the first boot the last command of the user data starts the snap; from then on it is enabled. */
const bootstrap = `#!/bin/sh
exec systemctl enable --now ${KUBELET.ubuntu}
`;

function shellParts(mime: string): string[] {
  const boundary = /boundary="([^"]+)"/.exec(mime)?.[1];
  if (boundary === undefined) return [];
  const parts = mime.split(`--${boundary}`).slice(1, -1).map((part) => part.split('\n\n'));
  return parts.filter(([head = '']) => /^Content-Type: text\/x-shellscript/m.test(head)).map(([, ...text]) => text.join('\n\n'));
}

function cloudConfig(disk: Disk, text: string | undefined): void {
  const { write_files: files, runcmd } = (text === undefined ? { write_files: [], runcmd: [['/etc/eks/bootstrap.sh']] } : parse(text)) as {
    readonly write_files: readonly { readonly path: string; readonly permissions: string; readonly content: string }[];
    readonly runcmd: readonly (readonly string[])[];
  };
  for (const { path, permissions, content } of files) disk.write(path, content, Number.parseInt(permissions, 8));
  const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
  disk.write('/var/lib/cloud/scripts/runcmd', `#!/bin/sh\n${runcmd.map((words) => `${words.map(quoted).join(' ')}\n`).join('')}`, 0o755);
}
