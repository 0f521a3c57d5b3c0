// What the checked-in manifests ask of a kubelet, so that what is tried here and what is installed cannot drift apart.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

export interface ManifestPod {
  readonly hostNetwork?: boolean;
  readonly hostPID?: boolean;
  readonly containers: readonly ManifestContainer[];
  readonly initContainers?: readonly ManifestContainer[];
  readonly volumes: readonly { readonly name: string; readonly hostPath: { readonly path: string; readonly type: string } }[];
}
export interface ManifestContainer {
  readonly name: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } } }[];
  readonly securityContext: {
    readonly privileged: boolean;
    readonly allowPrivilegeEscalation: boolean;
    readonly readOnlyRootFilesystem: boolean;
    readonly runAsUser: number;
    readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] };
    readonly seccompProfile: { readonly type: string };
  };
  readonly resources: { readonly limits: { readonly memory: string } };
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean; readonly mountPropagation?: string }[];
}

/** The pod of the one DaemonSet in a manifest of `daemonset/`. */
export function podOf(manifest: 'imds-guard.yaml' | 'uninstall.yaml'): ManifestPod {
  const text = readFileSync(fileURLToPath(new URL(`../../daemonset/${manifest}`, import.meta.url)), 'utf8');
  const sets = parseAllDocuments(text).map(document => document.toJS() as { readonly kind?: string; readonly spec: { readonly template: { readonly spec: ManifestPod } } }).filter(({ kind }) => kind === 'DaemonSet');
  const [set] = sets;
  if (set === undefined || sets.length > 1) throw new Error(`${manifest} has ${sets.length} DaemonSets`);
  return set.spec.template.spec;
}

/** One thing of the manifest that can be left out: `capability NET_RAW`, `mount /run/netns`, `propagation /run/netns`, `hostPID`. */
export type Part = `capability ${string}` | `mount ${string}` | `propagation ${string}` | 'hostPID' | 'hostNetwork';

export function partsOf({ hostNetwork, hostPID, containers }: ManifestPod): readonly Part[] {
  const [container] = containers as [ManifestContainer];
  return [
    ...(container.securityContext.capabilities.add ?? []).map((name): Part => `capability ${name}`),
    ...(container.volumeMounts ?? []).flatMap(({ mountPath, mountPropagation }): Part[] => [`mount ${mountPath}`, ...(mountPropagation ? [`propagation ${mountPath}` as const] : [])]),
    ...(hostPID ? (['hostPID'] as const) : []),
    ...(hostNetwork ? (['hostNetwork'] as const) : []),
  ];
}

export function without(pod: ManifestPod, part: Part): ManifestPod {
  const [container] = pod.containers as [ManifestContainer];
  const [kind, name] = part.split(' ');
  const { securityContext, volumeMounts = [] } = container;
  const capabilities = { ...securityContext.capabilities, add: (securityContext.capabilities.add ?? []).filter(one => kind !== 'capability' || one !== name) };
  const mounts = volumeMounts.filter(({ mountPath }) => kind !== 'mount' || mountPath !== name);
  return {
    ...pod,
    ...(part === 'hostPID' ? { hostPID: false } : {}),
    ...(part === 'hostNetwork' ? { hostNetwork: false } : {}),
    containers: [{ ...container, securityContext: { ...securityContext, capabilities }, volumeMounts: mounts.map(({ mountPropagation, ...mount }) => (mountPropagation === undefined || (kind === 'propagation' && mount.mountPath === name) ? mount : { ...mount, mountPropagation })) }],
  };
}
