// A real helm on the chart.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { binary } from '../cluster/binaries.ts';

export const chart = fileURLToPath(new URL('../../daemonset/chart', import.meta.url));
const found = await binary('helm');
/** A loud reason to skip, or false. */
export const noHelm: string | false = 'missing' in found ? found.missing : false;

/** `helm template`, as if into kube-system; values as `--set` has them. */
export function template(...values: readonly string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  return helm('template', 'imds-guard', chart, '--namespace', 'kube-system', ...values.flatMap(value => ['--set', value]));
}

export function helm(...args: readonly string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  if ('missing' in found) throw new Error(found.missing);
  const { status, stdout, stderr, error } = spawnSync(found.program, args, { encoding: 'utf8', env: { ...process.env, HELM_CACHE_HOME: '/tmp', HELM_CONFIG_HOME: '/tmp', HELM_DATA_HOME: '/tmp' } });
  if (error) throw error;
  return { status, stdout, stderr };
}

/** A Kubernetes object, whatever its kind. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type KubeObject = Readonly<Record<string, any>>;

/** What is rendered with these values; throws where it is refused. */
export function objects(...values: readonly string[]): readonly KubeObject[] {
  const { status, stdout, stderr } = template(...values);
  if (status !== 0) throw new Error(stderr);
  return parseAllDocuments(stdout).map(document => document.toJS() as KubeObject | null).filter(object => object !== null);
}

/** The checked-in manifests, by file: rendered for whoever does without helm. */
export const manifests = {
  'imds-guard.yaml': { values: [], head: 'kubectl apply -f daemonset/imds-guard.yaml, with your own image in it.' },
  'uninstall.yaml': { values: ['uninstall.enabled=true'], head: 'Takes the rules away on every node. First: kubectl delete -f daemonset/imds-guard.yaml.' },
} as const;

export function manifest(name: keyof typeof manifests): string {
  const { values, head } = manifests[name];
  const { status, stdout, stderr } = template(...values);
  if (status !== 0) throw new Error(stderr);
  // helm does not manage what kubectl applies.
  const text = stdout.replaceAll(/^.*app\.kubernetes\.io\/managed-by: .*\n/gm, '').replaceAll(/\n+(---\n)/g, '\n$1').replace(/^---\n/, '').trimEnd();
  return `# ${head}\n# Rendered from daemonset/chart by \`make manifests\`: change that.\n---\n${text}\n`;
}
