import { existsSync, readdirSync } from 'node:fs';
import { readText } from './read-text.ts';

/** The prefix that the VPC CNI gives to pod interfaces (AWS_VPC_K8S_CNI_VETHPREFIX), from its file in /etc/cni/net.d. */
export function cniPattern(directory: string): string | undefined {
  const files = existsSync(directory) ? readdirSync(directory) : [];
  for (const file of files.filter((name) => /\.conf(list)?$/.test(name)).sort()) {
    const prefix = /"vethPrefix"\s*:\s*"([A-Za-z0-9_]{1,4})"/.exec(readText(`${directory}/${file}`))?.[1];
    if (prefix !== undefined) return `${prefix}+`;
  }
  return undefined;
}
