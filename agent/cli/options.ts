import { LOG_LEVELS, type Settings } from '../core/settings.ts';
import { FORMATS, OSES, PARTITIONS } from '../core/userdata/wanted.ts';

export const COMMANDS = {
  apply: 'Put the rules in place that keep pods from IMDS, and prove that they do',
  check: 'Say whether every packet from a pod to IMDS dies: exit 0 blocked, 1 open, 2 unknown',
  clients: 'Say which pods use IMDS, and whether it is safe to block: exit 0 told, 2 nothing is counted',
  explain: "Show a packet's path, chain by chain, and the rule that decides",
  rules: 'Print the rules as input for iptables-restore --noflush',
  probe: 'Try IMDS from the networks of pods with real packets: exit 0 blocked, 1 open, 2 unknown',
  fleet: "Every node's answer, age and reason, from the conditions in the API alone: exit 0 blocked, 1 open, 2 unknown",
  remove: 'Take away exactly the rules that imds-guard writes',
  userdata: 'Print EC2 user data that keeps pods from IMDS before the first of them starts',
  guide: 'Say what to do for your kind of node group, step by step',
  watch: 'Keep pods from IMDS: see every overwrite at once, repair it, name who did it',
  version: 'Say what this is: version, commit, Node, bill of materials',
} as const;
export type CommandName = keyof typeof COMMANDS;

export interface OptionSpec {
  readonly type: 'string' | 'boolean' | 'number' | 'strings';
  readonly describe: string;
  readonly choices?: readonly string[];
  /** Where one command takes others than those. */
  readonly choicesOn?: Readonly<Partial<Record<CommandName, readonly string[]>>>;
  readonly on: readonly CommandName[];
  /** The setting it overrides. */
  readonly setting?: keyof Settings;
}

const EVERY: readonly CommandName[] = ['apply', 'check', 'explain', 'rules', 'probe', 'remove'];
const PATTERNED: readonly CommandName[] = [...EVERY, 'watch'];
const JUDGING: readonly CommandName[] = ['check', 'explain'];

export const choicesOf = ({ choices, choicesOn }: OptionSpec, command: CommandName): readonly string[] | undefined => choicesOn?.[command] ?? choices;

/** Every option once: yargs makes help, completion and errors of this table, and the quick parser reads by it. */
export const OPTIONS: Readonly<Record<string, OptionSpec>> = {
  config: { type: 'string', describe: 'YAML or JSON file with settings, - for standard input [default: /etc/imds-guard/config.yaml, where there is one]', on: [...PATTERNED, 'clients', 'fleet'] },
  output: { type: 'string', describe: 'how to print', choices: ['text', 'json', 'npd', 'prometheus'], on: [...EVERY, 'clients', 'fleet', 'version'] },
  interface: { type: 'strings', describe: 'pattern of the host side of pod interfaces (repeatable)', on: PATTERNED, setting: 'interfaces' },
  'branch-interface': { type: 'strings', describe: 'pattern of branch-ENI interfaces (repeatable)', on: PATTERNED, setting: 'branchInterfaces' },
  discover: { type: 'boolean', describe: 'add patterns that are found on the node', on: PATTERNED, setting: 'discover' },
  mode: { type: 'string', describe: 'block, or only count who asks for IMDS', choices: ['enforce', 'observe'], on: ['apply', 'rules', 'watch'], setting: 'mode' },
  layout: { type: 'string', describe: 'the documented rules, or jumps to a chain IMDS-GUARD', choices: ['documented', 'chain'], on: ['apply', 'rules', 'remove', 'watch'], setting: 'layout' },
  action: { type: 'string', describe: 'what becomes of a packet', choices: ['drop', 'reject'], on: ['apply', 'rules', 'remove', 'watch'], setting: 'action' },
  guard: { type: 'string', describe: 'who keeps the table inet imds-guard', choices: ['auto', 'plain', 'none', 'watched'], on: ['apply', 'rules', 'watch'], setting: 'guard' },
  backend: { type: 'string', describe: 'which iptables to write to', choices: ['auto', 'nft', 'legacy'], on: ['apply', 'rules', 'watch'], setting: 'backend' },
  'lock-wait': { type: 'number', describe: 'seconds to wait for the xtables lock', on: ['apply', 'remove', 'watch'], setting: 'lockWaitSeconds' },
  timeout: { type: 'number', describe: 'seconds each program may take', on: ['apply', 'check', 'explain', 'remove', 'watch'], setting: 'timeoutSeconds' },
  port: { type: 'number', describe: 'port of the endpoints /healthz, /readyz, /status, /metrics; 0 for none', on: ['watch'], setting: 'port' },
  address: { type: 'string', describe: 'IP address that they are at', on: ['watch'], setting: 'address' },
  metrics: { type: 'boolean', describe: 'serve /metrics at --metrics-address too', on: ['watch'], setting: 'metricsEnabled' },
  'metrics-address': { type: 'string', describe: 'IP address for /metrics alone; :: for all', on: ['watch'], setting: 'metricsAddress' },
  probe: { type: 'boolean', describe: 'send packets to IMDS from networks of pods; --no-probe: judge by the rules alone', on: ['check', 'watch'], setting: 'probe' },
  'probe-interval': { type: 'number', describe: 'send them about every so many seconds', on: ['watch'], setting: 'probeSeconds' },
  resync: { type: 'number', describe: 'look at least every so many seconds', on: ['watch'], setting: 'resyncSeconds' },
  'log-level': { type: 'string', describe: 'how much to log', choices: LOG_LEVELS, on: ['watch'], setting: 'logLevel' },
  watch: { type: 'boolean', describe: 'print again whenever something has changed, until told to stop', on: ['clients'] },
  kubernetes: { type: 'string', describe: "write the node's condition: where there is an API server for us, or never", choices: ['auto', 'none'], on: ['watch'], setting: 'kubernetes' },
  kubeconfig: { type: 'string', describe: "in place of the pod's own ServiceAccount", on: ['watch', 'fleet'], setting: 'kubeconfig' },
  'node-name': { type: 'string', describe: 'name of this Node in the API', on: ['watch'], setting: 'nodeName' },
  'startup-taint': { type: 'string', describe: 'key of a taint that goes once the node is proved blocked', on: ['watch'], setting: 'startupTaint' },
  all: { type: 'boolean', describe: "probe: every pod's network, not some of each kind; fleet: show every node", on: ['probe', 'fleet'] },
  context: { type: 'string', describe: 'context of the kubeconfig', on: ['fleet'] },
  selector: { type: 'string', describe: 'only nodes with these labels, as kubectl takes them', on: ['fleet'] },
  'dry-run': { type: 'boolean', describe: 'print what would be done and do nothing', on: ['apply', 'remove'] },
  from: { type: 'strings', describe: 'judge a saved ruleset, not this node (repeatable): iptables-save, ip6tables-save, nft -j', on: JUDGING },
  'from-backend': { type: 'string', describe: 'the iptables that saved the files', choices: ['nft', 'legacy'], on: JUDGING },
  'from-family': { type: 'string', describe: 'the family of the files', choices: ['ipv4', 'ipv6'], on: JUDGING },
  'from-table': { type: 'string', describe: 'the table of files that name none', choices: ['raw', 'mangle', 'nat', 'filter', 'security'], on: JUDGING },
  'from-mark': { type: 'string', describe: 'the mark that packets start with, such as 0x1100000', on: JUDGING },
  family: { type: 'string', describe: 'print the rules of this family', choices: ['ipv4', 'ipv6'], on: ['rules'] },
  target: { type: 'strings', describe: 'only targets whose name contains this (repeatable), such as eni+ or ipv6', on: ['explain'] },
  format: { type: 'string', describe: 'explain: text, or a picture; userdata: whom it is for', choices: ['text', 'svg'], choicesOn: { userdata: FORMATS }, on: ['explain', 'userdata'] },
  os: { type: 'string', describe: 'operating system of the nodes', choices: OSES, on: ['userdata', 'guide'] },
  cluster: { type: 'string', describe: 'name of the EKS cluster', on: ['userdata', 'guide'] },
  region: { type: 'string', describe: 'AWS region', on: ['userdata', 'guide'] },
  partition: { type: 'string', describe: 'AWS partition [default: that of --region]', choices: PARTITIONS, on: ['userdata', 'guide'] },
  'executable-url': { type: 'string', describe: 'where nodes get imds-guard from: https://… or s3://…; {arch} in it is x64 or arm64', on: ['userdata'] },
  'executable-sha256': { type: 'strings', describe: 'its hash: 64 hexadecimal digits, or x64=… and arm64=… (repeatable)', on: ['userdata'] },
  'api-server': { type: 'string', describe: 'endpoint of the cluster, where nothing else joins the nodes', on: ['userdata'] },
  'cluster-ca': { type: 'string', describe: "the cluster's certificate authority in base64", on: ['userdata'] },
  'service-cidr': { type: 'string', describe: "the cluster's block of service addresses", on: ['userdata'] },
  managed: { type: 'boolean', describe: 'a managed node group', on: ['guide'] },
  'self-managed': { type: 'boolean', describe: 'self-managed nodes', on: ['guide'] },
  karpenter: { type: 'boolean', describe: 'nodes that Karpenter makes', on: ['guide'] },
  new: { type: 'boolean', describe: 'a new group', on: ['guide'] },
  existing: { type: 'boolean', describe: 'a group that is there', on: ['guide'] },
  'launch-template': { type: 'boolean', describe: 'managed, with a launch template of your own; --no-launch-template: without', on: ['guide'] },
  eksctl: { type: 'boolean', describe: 'self-managed, made with eksctl; --no-eksctl: by the console or CloudFormation', on: ['guide'] },
  windows: { type: 'boolean', describe: 'nodes with Windows', on: ['guide'] },
};

export const EXAMPLES: Readonly<Record<CommandName, readonly (readonly [string, string])[]>> = {
  apply: [
    ['$0 apply', 'write what is missing, then check'],
    ['$0 apply --dry-run', 'show what would be written'],
    ['$0 apply --mode observe', 'block nobody, and count who asks: what would blocking break?'],
    ['$0 apply --layout chain --interface eni+ --interface foo+', 'a chain of our own; two kinds of pod interface'],
  ],
  check: [
    ['$0 check', 'judge this node'],
    ['$0 check --output npd', 'one line for node-problem-detector'],
    ['iptables-save > dump && $0 check --from dump --output json', 'judge a dump from a ticket'],
  ],
  clients: [
    ['$0 clients', 'who asked for IMDS since counting began'],
    ['$0 clients --watch --output json', 'one object a line, whenever something has changed'],
  ],
  explain: [
    ['$0 explain --target eni+', 'the path of a packet from an ordinary pod'],
    ['$0 explain --format svg > path.svg', 'as a picture'],
  ],
  rules: [['$0 rules | iptables-restore --noflush', 'put the rules in place by hand']],
  probe: [
    ['$0 probe', 'some pods of each kind, and the node itself for comparison'],
    ['$0 probe --all --output json', 'every pod'],
  ],
  fleet: [
    ['$0 fleet', 'the cluster of the kubeconfig: $KUBECONFIG or ~/.kube/config'],
    ['$0 fleet --selector karpenter.sh/nodepool=default --output json', 'some nodes'],
  ],
  remove: [['$0 remove --dry-run', 'show what would be taken away']],
  userdata: [
    ['$0 userdata --os al2023 --cluster prod', 'rules alone, for the launch template of a managed node group'],
    ['$0 userdata --os al2023 --cluster prod --format karpenter --region eu-west-1 --executable-url s3://BUCKET/imds-guard-linux-{arch} --executable-sha256 x64=HEX --executable-sha256 arm64=HEX', 'an EC2NodeClass; nodes fetch the daemon by its hash'],
    ['$0 userdata --os ubuntu --format script | sudo sh', 'this node, or an image that is being built'],
  ],
  guide: [
    ['$0 guide', 'all rows, and how to choose'],
    ['$0 guide --managed --existing --launch-template --os al2023', 'one row, with its steps'],
  ],
  watch: [
    ['$0 watch', 'until it is told to stop; the rules stay'],
    ['$0 watch --metrics', 'with /metrics for Prometheus on every address of the node'],
  ],
  version: [['$0 version --output json', 'with the hash of its bill of materials']],
};
