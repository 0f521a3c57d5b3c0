import { placeOf } from '../watch/cgroup.ts';
import type { PodIdentity } from '../probe/report.ts';

/** Says which pod something belongs to; undefined where it cannot be told, or belongs to none. */
export interface PodNames {
  readonly all: readonly PodIdentity[];
  /** By the text of /proc/PID/cgroup, or by the path of a cgroup. A pod whose folder is gone has its UID alone. */
  readonly ofCgroup: (text: string) => PodIdentity | undefined;
  /** By the host's interface, also one of a pod that is gone. */
  readonly ofInterface: (name: string) => PodIdentity | undefined;
}

/** In hex. Core hashes nothing itself. */
export type Sha1 = (text: string) => string;

export function podNames(folders: readonly string[], sha1: Sha1): PodNames {
  const all = folders.flatMap((folder) => podOfFolder(folder) ?? []);
  const byUid = new Map(all.map((pod) => [pod.uid, pod]));
  const byHash = new Map<string, PodIdentity[]>();
  for (const pod of all) {
    const hash = sha1(`${pod.namespace}.${pod.name}`).slice(0, HASH_DIGITS);
    byHash.set(hash, [...(byHash.get(hash) ?? []), pod]);
  }
  return {
    all,
    ofCgroup: (text) => {
      const uid = uidOf(text);
      return uid === undefined ? undefined : (byUid.get(uid) ?? { uid });
    },
    ofInterface: (name) => agreed(byHash.get(HASHED.exec(name)?.[1] ?? '') ?? []),
  };
}

/** `0::/kubepods/…` as /proc writes it, or the path alone. */
const uidOf = (text: string): string | undefined => placeOf(text.startsWith('/') ? `0::${text}` : text).podUid;

/**
 * `kube-system_aws-node-x7k2p_0f5c1a2b-…`: kubelet names the folder of a pod's logs `<namespace>_<name>_<uid>`, and no name in
 * Kubernetes has a `_`. A static pod has a hash for a UID. The folder stays for a while when the pod is gone.
 */
function podOfFolder(folder: string): Required<PodIdentity> | undefined {
  const [, namespace, name, uid] = FOLDER.exec(folder) ?? [];
  return namespace === undefined || name === undefined || uid === undefined ? undefined : { namespace, name, uid };
}
const FOLDER = /^([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)_([a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)_([0-9a-zA-Z-]{1,64})$/;

/**
 * `eni8ca2e41546c`: the VPC CNI (networkutils.GeneratePodHostVethName) and Calico (VethNameForWorkload) name a host interface by a prefix and the
 * beginning of sha1("<namespace>.<name>"). The prefix is `eni`, `vlan`, `cali` or configured, at most four letters.
 */
const HASHED = /^.{1,4}([0-9a-f]{11})$/;
const HASH_DIGITS = 11;

/** A pod of a StatefulSet comes back under its name with another UID: then the name is certain, and the UID is not. */
function agreed(pods: readonly PodIdentity[]): PodIdentity | undefined {
  const [first, ...others] = pods;
  if (first === undefined || others.some(({ namespace, name }) => namespace !== first.namespace || name !== first.name)) return undefined;
  return others.length === 0 ? first : { namespace: first.namespace!, name: first.name! };
}
