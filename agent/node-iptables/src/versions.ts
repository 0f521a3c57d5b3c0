import type { Version } from './firewall.ts';
import type { Backend } from './model.ts';
import type { Family } from './sets/address.ts';

/**
 * Reads what `iptables --version` prints; undefined when the text is something else.
 *
 *     iptables v1.8.9 (nf_tables)
 *     ip6tables v1.8.7 (legacy)
 *     iptables-nft-save v1.8.9 (nf_tables)
 *     iptables v1.4.21                       before 1.8 there was one backend, and no word for it
 */
export function parseVersion(text: string): Version | undefined {
  const found = VERSION.exec(text);
  if (!found) return undefined;
  const [, major, minor, patch, backend] = found;
  return {
    text: found[0],
    major: Number(major),
    minor: Number(minor),
    patch: Number(patch ?? 0),
    backend: backend === 'nf_tables' ? 'nft' : 'legacy',
  };
}

/** A line of its own: warnings may stand before it. A backend that has no name here is not guessed at. */
const VERSION = /^ip6?tables[a-z-]* v(\d+)\.(\d+)(?:\.(\d+))?(?: \((nf_tables|legacy)\))?$/m;

/** Below, at, or above: negative, zero or positive, as for `sort`. */
export const compareVersions = (one: Version, other: Version): number =>
  one.major - other.major || one.minor - other.minor || one.patch - other.patch;

/** What a program does besides changing single rules, which is what the bare name stands for. */
export type Verb = 'change' | 'save' | 'restore';

/** `iptables-nft-save`, `ip6tables-legacy-restore`; for 'default' the name without a backend: `iptables-save`. */
export function programName(family: Family, backend: Backend | 'default', verb: Verb): string {
  const parts = [family === 'ipv4' ? 'iptables' : 'ip6tables'];
  if (backend !== 'default') parts.push(backend);
  if (verb !== 'change') parts.push(verb);
  return parts.join('-');
}
