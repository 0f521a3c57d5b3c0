import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { type PodNames, podNames as namesIn } from '../core/clients/identity.ts';

/**
 * The pods of this node by the folders of their logs, as they are now: no API server and no runtime has to be asked. Where
 * there are none (another kubelet's place, a container without the host's folders), nothing has a name but its UID.
 *
 * @param root where the node's own file system begins
 */
export const podNames = ({ root = '/' }: { readonly root?: string } = {}): PodNames => namesIn(foldersIn(`${root}/var/log/pods`), sha1);

function foldersIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');
