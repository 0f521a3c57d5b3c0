// What the checked-in manifests give the agent, as requests to an API server.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

// An object of Kubernetes, whatever its kind.
export type KubeObject = Readonly<Record<string, any>>;

const PATHS: Readonly<Record<string, (namespace: string) => string>> = {
  ServiceAccount: namespace => `/api/v1/namespaces/${namespace}/serviceaccounts`,
  ClusterRole: () => '/apis/rbac.authorization.k8s.io/v1/clusterroles',
  ClusterRoleBinding: () => '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
  ValidatingAdmissionPolicy: () => '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
  ValidatingAdmissionPolicyBinding: () => '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings',
  DaemonSet: namespace => `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
};

export interface Creation {
  readonly path: string;
  readonly body: KubeObject;
}

/** Every object of `daemonset/imds-guard.yaml`, in its order. */
export function creations(): readonly Creation[] {
  const text = readFileSync(fileURLToPath(new URL('../../daemonset/imds-guard.yaml', import.meta.url)), 'utf8');
  return parseAllDocuments(text).map(document => document.toJS() as KubeObject).map(creationOf);
}

export function creationOf(body: KubeObject): Creation {
  const path = PATHS[String(body['kind'])];
  if (path === undefined) throw new Error(`where a ${body['kind']} goes is not known here`);
  return { path: path(body['metadata']['namespace'] ?? 'default'), body };
}

/** All that an agent needs to be itself, without the DaemonSet. */
export const agentRights = (objects: readonly Creation[] = creations()): readonly Creation[] => objects.filter(({ body }) => body['kind'] !== 'DaemonSet');
