// What the chart renders with one value and another, and what it refuses.
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { settingsOfEnvironment } from '../../agent/config.ts';
import { chart, helm, type KubeObject, noHelm, objects, template } from './helm.ts';

const only = (kind: string, ...values: readonly string[]): KubeObject => {
  const found = objects(...values).filter(object => object['kind'] === kind);
  if (found.length !== 1) throw new Error(`${found.length} of ${kind}`);
  return found[0]!;
};
const kinds = (...values: readonly string[]): string[] => objects(...values).map(object => String(object['kind'])).sort();
const podOf = (...values: readonly string[]): KubeObject => only('DaemonSet', ...values)['spec'].template.spec;
const containerOf = (...values: readonly string[]): KubeObject => podOf(...values)['containers'][0];
const environmentOf = (...values: readonly string[]): Readonly<Record<string, string>> =>
  Object.fromEntries((containerOf(...values)['env'] as readonly { readonly name: string; readonly value?: string }[]).map(({ name, value = 'from the node' }) => [name, value]));

const usual = ['ClusterRole', 'ClusterRoleBinding', 'DaemonSet', 'ServiceAccount', 'ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding'];

t.test('helm has nothing to say against it', { skip: noHelm }, async t => {
  const { status, stdout, stderr } = helm('lint', '--strict', chart);
  t.equal(status, 0, stdout + stderr);
  t.notMatch(stdout, /WARNING|ERROR/);
});

t.test('as it comes', { skip: noHelm }, async t => {
  t.same(kinds(), usual);
  t.match(podOf(), { hostNetwork: true, hostPID: true, priorityClassName: 'system-node-critical', dnsPolicy: 'ClusterFirstWithHostNet', tolerations: [{ operator: 'Exists' }] });
  t.match(only('DaemonSet')['spec'].updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } });
  const [term] = podOf()['affinity'].nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;
  t.same(term.matchExpressions, [
    { key: 'kubernetes.io/os', operator: 'In', values: ['linux'] },
    { key: 'eks.amazonaws.com/compute-type', operator: 'NotIn', values: ['fargate', 'auto', 'hybrid', 'hyperpod'] },
    { key: 'kubernetes.io/arch', operator: 'In', values: ['amd64', 'arm64'] },
  ]);
  const container = containerOf();
  t.same(container['securityContext'], {
    privileged: false, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, runAsUser: 0, runAsGroup: 0,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN', 'SYS_PTRACE'] },
    seccompProfile: { type: 'RuntimeDefault' },
  });
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) t.match(container[probe].httpGet, { host: '127.0.0.1', port: 16925 }, probe);
  t.equal(container['readinessProbe'].httpGet.path, '/readyz');
  for (const mount of container['volumeMounts']) if (mount.mountPath !== '/run/xtables.lock') t.equal(mount.readOnly, true, mount.mountPath);
  t.same(only('ClusterRole')['rules'], [
    { apiGroups: [''], resources: ['nodes'], verbs: ['get'] },
    { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
    { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
  ]);
  t.equal(only('ServiceAccount')['automountServiceAccountToken'], false);
});

t.test('settings become variables that the agent takes', { skip: noHelm }, async t => {
  const environment = environmentOf('settings.lockWaitSeconds=7', 'settings.interfaces={eni+,foo+}', 'settings.layout=chain', 'settings.discover=false', 'metrics.enabled=true', 'startupTaint.enabled=true', 'port=17000');
  t.match(settingsOfEnvironment(environment).values, {
    lockWaitSeconds: 7, interfaces: ['eni+', 'foo+'], layout: 'chain', discover: false, metricsEnabled: true, port: 17000, startupTaint: 'readiness.k8s.io/imds-guard', kubernetes: 'auto', nodeName: 'from the node',
  });
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) t.equal(containerOf('port=17000')[probe].httpGet.port, 17000);
});

t.test('every setting is either one of `settings`, or decided by the chart', async t => {
  const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as { readonly properties: { readonly settings: { readonly properties: object } } };
  const decided = ['port', 'address', 'metricsEnabled', 'metricsAddress', 'kubernetes', 'kubeconfig', 'nodeName', 'startupTaint'];
  t.same([...Object.keys(schema.properties.settings.properties), ...decided].sort(), Object.keys(DEFAULT_SETTINGS).sort());
});

t.test('options, and what each brings', { skip: noHelm }, async t => {
  t.same(kinds('kubernetes.enabled=false'), ['DaemonSet', 'ServiceAccount'], 'nobody to talk to');
  t.match(podOf('kubernetes.enabled=false'), { automountServiceAccountToken: false });
  t.match(environmentOf('kubernetes.enabled=false'), { IMDS_GUARD_KUBERNETES: 'none' });
  t.same(kinds('kubernetes.admissionPolicy=false'), usual.filter(kind => !kind.startsWith('Validating')));
  t.same(containerOf('settings.probe=false')['securityContext'].capabilities.add, ['NET_ADMIN', 'NET_RAW']);
  t.equal(containerOf('settings.mode=observe')['readinessProbe'].httpGet.path, '/healthz', 'observing it is never proved, and an update goes on all the same');
  t.match(only('ClusterRole', 'startupTaint.enabled=true')['rules'][0], { resources: ['nodes'], verbs: ['get', 'patch'] });
  t.equal(kinds('startupTaint.enabled=true').filter(kind => kind === 'ValidatingAdmissionPolicy').length, 2, 'and a policy that holds that right');
  t.match(only('PodMonitor', 'metrics.enabled=true', 'metrics.podMonitor.enabled=true', 'metrics.podMonitor.labels.release=prometheus'), { metadata: { labels: { release: 'prometheus' } }, spec: { podMetricsEndpoints: [{ port: 'http', path: '/metrics' }] } });
  t.match(only('ServiceMonitor', 'metrics.enabled=true', 'metrics.serviceMonitor.enabled=true'), { spec: { endpoints: [{ port: 'http' }] } });
  t.equal(only('Service', 'metrics.enabled=true', 'metrics.serviceMonitor.enabled=true')['spec'].publishNotReadyAddresses, true, 'who is not proved is the one to hear of');
  t.match(only('NodeReadinessRule', 'nodeReadinessRule.enabled=true'), {
    apiVersion: 'readiness.node.x-k8s.io/v1alpha1',
    spec: { conditions: [{ type: 'PodIMDSBlocked', requiredStatus: 'True' }], enforcementMode: 'bootstrap-only', taint: { key: 'readiness.k8s.io/imds-guard', effect: 'NoSchedule' } },
  });
  t.ok((only('PrometheusRule', 'prometheusRule.enabled=true')['spec'].groups as readonly unknown[]).length > 0);
  const dashboard = only('ConfigMap', 'dashboard.enabled=true');
  t.match(dashboard['metadata'].labels, { grafana_dashboard: '1' });
  t.ok((JSON.parse(dashboard['data']['imds-guard.json']) as { readonly panels: readonly unknown[] }).panels.length > 4);
  t.equal(containerOf('image.repository=r/i', `image.digest=sha256:${'0'.repeat(64)}`)['image'], `r/i@sha256:${'0'.repeat(64)}`);
});

t.test('the removal has no token and no right that it does not need', { skip: noHelm }, async t => {
  t.same(kinds('uninstall.enabled=true'), ['DaemonSet'], 'and the agent is gone, which it waits for');
  const pod = podOf('uninstall.enabled=true');
  t.match(pod, { automountServiceAccountToken: false, hostNetwork: true });
  t.notOk(pod['hostPID']);
  t.match(pod['initContainers'], [{ args: ['remove'], securityContext: { capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] } } }]);
  t.match(pod['containers'], [{ securityContext: { runAsNonRoot: true, capabilities: { drop: ['ALL'] } } }]);
  t.notOk(pod['containers'][0].securityContext.capabilities.add);
});

const refused: readonly (readonly [readonly string[], RegExp])[] = [
  [['settings.mode=enforced'], /settings\/mode.*'enforce', 'observe'/],
  [['settings.lokWaitSeconds=5'], /settings.*additional properties 'lokWaitSeconds' not allowed/],
  [['setings.mode=enforce'], /additional properties 'setings' not allowed/],
  [['settings.probeSeconds=5'], /settings\/probeSeconds.*minimum.*60/],
  [['settings.interfaces={much-too-long-name+}'], /settings\/interfaces\/0.*does not match pattern/],
  [['settings.mode=observe', 'settings.guard=none'], /guard none goes neither with mode observe/],
  [['settings.action=reject', 'settings.guard=none'], /nor with action reject/],
  [['port=80'], /port.*minimum: got 80, want 1,024/],
  [['port=no'], /port.*got string, want integer/],
  [['image.digest=latest'], /image\/digest.*does not match pattern/],
  [['nodeReadinessRule.taintKey=example.com/x'], /nodeReadinessRule\/taintKey': 'example\.com\/x' does not match pattern '\^readiness/],
  [['kubernetes.enabled=maybe'], /kubernetes\/enabled.*want boolean/],
  [['nodeReadinessRule.enabled=true', 'startupTaint.enabled=true'], /one of them takes the taint away, not both/],
  [['startupTaint.enabled=true', 'kubernetes.enabled=false'], /need the condition: kubernetes\.enabled/],
  [['startupTaint.enabled=true', 'settings.mode=observe'], /would keep every pod away for ever/],
  [['metrics.podMonitor.enabled=true'], /finds nothing without metrics\.enabled/],
];
t.test('nonsense is refused, in words that say what is wrong', { skip: noHelm }, async t => {
  for (const [values, why] of refused) {
    const { status, stdout, stderr } = template(...values);
    t.not(status, 0, values.join(' '));
    t.equal(stdout, '');
    t.match(stderr, why, values.join(' '));
  }
});

t.test('the notes say what to do next', { skip: noHelm }, async t => {
  const notes = (...values: readonly string[]): string => helm('install', 'imds-guard', chart, '--namespace', 'kube-system', '--dry-run=client', ...values.flatMap(value => ['--set', value])).stdout.split('NOTES:')[1] ?? '';
  t.match(notes(), /type=="PodIMDSBlocked"/);
  t.match(notes(), /ec2_metadata_containers/);
  t.match(notes('settings.layout=chain'), /allowedIPTablesChains: \[filter\/IMDS-GUARD, mangle\/IMDS-GUARD\]/);
  t.match(notes('settings.mode=observe'), /BLOCKS NOBODY/);
  t.notMatch(notes('settings.probe=false'), /Falco/);
  t.match(notes('uninstall.enabled=true'), /rollout status daemonset\/imds-guard-uninstall/);
});
