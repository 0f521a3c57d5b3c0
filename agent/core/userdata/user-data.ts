import { bootstrapScript, bootstrapWords, bottlerocketSettings, nodeConfig } from './joining.ts';
import { indented } from './quote.ts';
import { rulesScript } from './rules-script.ts';
import { setupScript } from './setup-script.ts';
import { FOLDER } from './units.ts';
import type { UserDataWanted } from './wanted.ts';

/** What the instance is given, as its operating system reads it. */
export function userData(wanted: UserDataWanted): string {
  switch (wanted.os) {
    case 'al2023':
    case 'al2':
      return multipart(amazonLinuxParts(wanted));
    case 'bottlerocket':
      return bottlerocket(wanted);
    case 'ubuntu':
      return cloudConfig(wanted);
  }
}

interface Part {
  readonly type: string;
  readonly text: string;
}

/**
 * On AL2023 a text/x-shellscript part runs after nodeadm-config and before nodeadm-run, which starts kubelet; on AL2 the parts
 * run in their order. EKS, Karpenter and eksctl add theirs behind.
 */
function amazonLinuxParts(wanted: UserDataWanted): Part[] {
  const { os, cluster, joining } = wanted;
  const setup: Part = { type: 'text/x-shellscript; charset="us-ascii"', text: setupScript(wanted) };
  if (joining === undefined) return [setup];
  if (os === 'al2') return [setup, { type: 'text/x-shellscript; charset="us-ascii"', text: bootstrapScript(cluster, joining) }];
  return [setup, { type: 'application/node.eks.aws', text: nodeConfig(cluster, joining) }];
}

const BOUNDARY = 'IMDS-GUARD-PART';

/** Without a `--` at the beginning of a line, no text can hold the boundary; the scripts have none (test/unit/userdata.test.ts). */
const multipart = (parts: readonly Part[]): string =>
  [
    'MIME-Version: 1.0',
    `Content-Type: multipart/mixed; boundary="${BOUNDARY}"`,
    '',
    ...parts.flatMap(({ type, text }) => [`--${BOUNDARY}`, `Content-Type: ${type}`, '', text.trimEnd(), '']),
    `--${BOUNDARY}--`,
    '',
  ].join('\n');

/**
 * A bootstrap container runs before kubelet at each boot; where it fails, `essential` ends the boot. Without `source` it is
 * Bottlerocket's own image (1.35 and later), which runs the user data as a script.
 */
const bottlerocket = ({ cluster, joining }: UserDataWanted): string =>
  `${joining === undefined ? '' : bottlerocketSettings(cluster, joining)}${bootstrapContainer()}`;

export const bootstrapContainer = (): string => `[settings.bootstrap-containers.imds-guard]
mode = "always"
essential = true
user-data = "${Buffer.from(rulesScript()).toString('base64')}"
`;

/** The file first, then both commands, in this order: the second starts kubelet. Hardly indented, for EC2 counts every byte. */
const cloudConfig = (wanted: UserDataWanted): string => `#cloud-config
write_files:
- path: ${FOLDER}/setup.sh
  permissions: "0755"
  content: |
${indented(setupScript(wanted), 3)}runcmd:
- ["/bin/sh", "${FOLDER}/setup.sh"]
${wanted.joining === undefined ? '' : `- [${bootstrapWords(wanted.cluster, wanted.joining).map((word) => `"${word}"`).join(', ')}]\n`}`;
