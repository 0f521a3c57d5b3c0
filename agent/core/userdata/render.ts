import { cloudFormation, eksctl, karpenter, terraform } from './formats.ts';
import { setupScript } from './setup-script.ts';
import { userData } from './user-data.ts';
import type { Format, Refused, UserDataWanted } from './wanted.ts';

/** EC2 takes so many bytes, before base64. */
export const MOST_BYTES = 16_384;
/** What EKS, Karpenter and eksctl add where they join the node: a NodeConfig with a certificate of two kilobytes, and labels. */
export const THEIR_BYTES = 3072;

const TEXT: Readonly<Record<Format, (wanted: UserDataWanted) => string>> = {
  userdata: userData,
  script: setupScript,
  karpenter,
  cloudformation: cloudFormation,
  terraform,
  eksctl,
};

/** The text that was asked for; refused where EC2 would not take the user data in it. */
export function renderUserData(wanted: UserDataWanted): string | Refused {
  const bytes = Buffer.byteLength(userData(wanted)) + (wanted.joining === undefined ? THEIR_BYTES : 0);
  if (wanted.format !== 'script' && bytes > MOST_BYTES) return { is: 'refused', because: `the user data is ${bytes} bytes${wanted.joining === undefined ? `, with ${THEIR_BYTES} for what joins the node,` : ''} and EC2 takes ${MOST_BYTES}: give a shorter --executable-url, or put imds-guard into the image (--format script) and leave it away` };
  return TEXT[wanted.format](wanted);
}
