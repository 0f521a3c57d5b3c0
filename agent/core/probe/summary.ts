import type { Family } from 'node-iptables';
import type { Answer, Reason } from '../reasons.ts';
import { LEFT_OVER, TOO_MANY_LINKS } from './pod-network.ts';
import type { NetworkProbe, PodIdentity, ProbeReport } from './report.ts';

/** What was done, before it is judged. */
export interface Probed {
  readonly control: readonly NetworkProbe[];
  readonly networks: readonly NetworkProbe[];
  readonly found: number;
  readonly uncovered: ProbeReport['uncovered'];
  readonly skipped: ProbeReport['skipped'];
  readonly tookMs: number;
}

/** What the probes alone say. Without an answer to the node itself, silence elsewhere tells nothing. */
export function summary({ control, networks, found, uncovered, skipped, tookMs }: Probed): ProbeReport {
  const hopLimit = Object.fromEntries(control.flatMap(({ family, tokenTtl }) => (tokenTtl === undefined ? [] : [[family, tokenTtl]]))) as ProbeReport['hopLimit'];
  return { ...judged(control, networks, found, notEntered(skipped)), control, hopLimit, networks, skipped: folded(skipped), uncovered, found, tookMs };
}

type Judged = Pick<ProbeReport, 'answer' | 'reason' | 'message'>;

function judged(control: readonly NetworkProbe[], networks: readonly NetworkProbe[], found: number, blind: ProbeReport['skipped']): Judged {
  const say = (answer: Answer, reason: Reason, message: string): Judged => ({ answer, reason, message });
  const some = (...classes: readonly NetworkProbe['class'][]): NetworkProbe | undefined => networks.find((one) => classes.includes(one.class));
  if (found === 0) return say('unknown', 'NoPodToProbe', blind.length === 0 ? 'no network of a pod was found on this node' : `no network of a pod could be entered: ${blind[0]!.networkNamespace}: ${blind[0]!.because}`);
  const open = some('open');
  if (open) return say('open', 'PodReachedImds', `${networkName(open)} got ${exchangeText(open)}`);
  const proxied = some('proxied');
  if (proxied) return say('unknown', 'AnsweredElsewhere', `${networkName(proxied)}: ${decisive(proxied)}`);
  const refused = some('throttled', 'forbidden', 'v1-off', 'hop-limit');
  if (refused) return say('unknown', refused.class === 'hop-limit' ? 'OnlyHopLimit' : 'OnlyImdsRefuses', `${networkName(refused)}: ${decisive(refused)}`);
  const families = answeringFamilies(control);
  if (families.length === 0) return say('unknown', 'ControlFailed', control.map(({ family, ...one }) => `${family}: ${decisive(one)}`).join('; '));
  // Where IMDS is, it is there over IPv4; over IPv6 only where somebody switched it on, which the control tells.
  const counted = networks.filter(({ family }) => family === 'ipv4' || families.includes(family));
  const doubtful = counted.find((one) => one.class === 'inconclusive');
  if (doubtful) return say('unknown', 'ProbeInconclusive', `${networkName(doubtful)}: ${decisive(doubtful)}`);
  if (!counted.some(isKeptOut)) return say('unknown', 'ProbeInconclusive', 'no pod that was tried has a route to IMDS');
  // A pod chooses by which of its ways it sends, and may choose by port.
  const unruled = networks.find((one) => one.unruled.length > 0);
  if (unruled) return say('unknown', 'ProbeInconclusive', `${networkName(unruled)}: it may send by ${unruled.unruled.join(', ')} as well, where no rule of the node need be met`);
  const hidden = blind.find(({ because }) => because === TOO_MANY_LINKS);
  if (hidden) return say('unknown', 'ProbeInconclusive', `${hidden.networkNamespace}: ${hidden.because}`);
  // gVisor takes the addresses out of the namespace, and sends all the same.
  const mute = counted.find((one) => !counted.some((other) => other.networkNamespace === one.networkNamespace && isKeptOut(other)));
  if (mute) return say('unknown', 'ProbeInconclusive', `${networkName(mute)}: nothing could be sent from there`);
  return say('blocked', 'EveryProbeDied', `${counted.filter(isKeptOut).length} tried, none got an answer; the node itself did (${families.join(', ')})`);
}

/** The node's own request was answered by IMDS, or at least by something out there: then a packet can get there and back. */
export const answeringFamilies = (control: readonly NetworkProbe[]): Family[] => control.filter(({ v1, v2 }) => v1.connected || v2.connected).map(({ family }) => family);

export const isKeptOut = ({ class: kind }: Pick<NetworkProbe, 'class'>): boolean => kind === 'dropped' || kind === 'rejected';

/** What is there and could not be looked into; not what is only left of a namespace. */
export const notEntered = (skipped: ProbeReport['skipped']): ProbeReport['skipped'] => skipped.filter(({ because }) => because !== LEFT_OVER);

const exchangeText = ({ v1, v2 }: NetworkProbe): string => [v2, v1].filter((one) => one.class === 'open').map(({ because }) => because).join(', and ');
const decisive = ({ class: kind, v1, v2 }: Pick<NetworkProbe, 'class' | 'v1' | 'v2'>): string => (v2.class === kind ? v2.because : v1.because);

/** `shop/web-0 (eni0af1…, ipv4)` */
export const networkName = ({ pods, networkNamespace, interfaces, family }: NetworkProbe): string =>
  `${pods.length > 0 ? pods.map(podText).join(', ') : networkNamespace} (${[...interfaces, family].join(', ')})`;
export const podText = ({ namespace, name, uid }: PodIdentity): string => (namespace === undefined ? `pod ${uid ?? 'without a name'}` : `${namespace}/${name}`);

const MOST_SKIPPED = 20;

/** A thousand files that nothing is mounted on are one line too many. */
function folded(skipped: ProbeReport['skipped']): ProbeReport['skipped'] {
  const unlikeOthersFirst = [...notEntered(skipped), ...skipped.filter(({ because }) => because === LEFT_OVER)];
  return skipped.length <= MOST_SKIPPED ? skipped : [...unlikeOthersFirst.slice(0, MOST_SKIPPED), { networkNamespace: `${skipped.length - MOST_SKIPPED} more`, because: 'of these and other kinds' }];
}
