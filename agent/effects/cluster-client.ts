import { existsSync } from 'node:fs';
import { inClusterAccess, kubeconfigAccess } from './kube-access.ts';
import { KubeClient } from './kube-client.ts';

/**
 * The cluster that a person means: the kubeconfig that is named, $KUBECONFIG (the first that is there), ~/.kube/config, or in a pod its
 * ServiceAccount.
 *
 * @throws Error where there is none
 */
export function clusterClient(kubeconfig: string, context: string | undefined, env: Readonly<Record<string, string | undefined>>): KubeClient {
  const named = kubeconfig === '' ? [...(env['KUBECONFIG'] ?? '').split(':').filter((path) => path !== ''), `${env['HOME'] ?? '/root'}/.kube/config`].find((path) => existsSync(path)) : kubeconfig;
  const access = named === undefined ? inClusterAccess(env) : kubeconfigAccess(named, context, env);
  if (!access) throw new Error('no cluster is known: give --kubeconfig, or set KUBECONFIG');
  return new KubeClient(access);
}
