import { readFile, readdir } from 'node:fs/promises';

/** The prefix that the VPC CNI gives to pod interfaces (AWS_VPC_K8S_CNI_VETHPREFIX), from its file in /etc/cni/net.d. */
export async function cniPattern(directory: string): Promise<string | undefined> {
  const files = await readdir(directory).catch(() => []);
  for (const file of files.filter((name) => /\.conf(list)?$/.test(name)).sort()) {
    const text = await readFile(`${directory}/${file}`, 'utf8').catch(() => '');
    const prefix = /"vethPrefix"\s*:\s*"([A-Za-z0-9_]{1,4})"/.exec(text)?.[1];
    if (prefix !== undefined) return `${prefix}+`;
  }
  return undefined;
}
