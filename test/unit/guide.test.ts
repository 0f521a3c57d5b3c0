import t from 'tap';
import { type GuideAsked, type GuideOptions, readGuide } from '../../agent/core/guide/asked.ts';
import { ROWS } from '../../agent/core/guide/rows.ts';
import { guideText } from '../../agent/core/guide/text-guide.ts';

function text(options: GuideOptions): string {
  const asked = readGuide(options);
  if ('is' in asked) throw new Error(asked.because);
  return guideText(asked);
}

const AGES = [{ new: true }, { existing: true }] as const;
const KINDS = [{ managed: true, 'launch-template': false }, { managed: true, 'launch-template': true }, { 'self-managed': true, eksctl: false }, { 'self-managed': true, eksctl: true }, { karpenter: true }] as const;

// The table of the EKS security best practices, "restrict access to IMDS": each row, new and existing.
const says: readonly (readonly [new_: RegExp, existing: RegExp])[] = [
  [/eksctl create nodegroup .* --disable-pod-imds$/m, /cannot be changed[\s\S]*guide --managed --new --launch-template[\s\S]*drain/],
  [/Metadata accessible: Enabled\n.*V2 only \(token required\)\n.*hop limit: 1\n/, /hop limit: 1\n[\s\S]*create-launch-template-version[\s\S]*update-nodegroup-version/],
  [/amazon-eks-nodegroup\.yaml[\s\S]*HttpPutResponseHopLimit : 2 .*HttpPutResponseHopLimit : 1\n[\s\S]*DisableIMDSv1 = true/, /DisableIMDSv1 = true[\s\S]*EVERY later update/],
  [/eksctl create nodegroup .* --managed=false --disable-pod-imds$/m, /eksctl create nodegroup .*--disable-pod-imds\n[\s\S]*eksctl delete nodegroup[\s\S]*EVERY later group/],
  [/httpPutResponseHopLimit: 1\n *httpTokens: required/, /drift[\s\S]*httpPutResponseHopLimit: 1/],
];

t.test('each row of the table has its steps', async (t) => {
  KINDS.forEach((kind, row) => AGES.forEach((age, column) => {
    const printed = text({ ...kind, ...age, cluster: 'prod', region: 'eu-west-1', os: 'al2023' });
    t.match(printed, says[row]![column]!);
    t.match(printed, /^Before\n[\s\S]*^By EC2\n[\s\S]*^By rules\n[\s\S]*^After\n/m);
    t.notMatch(printed, /undefined|CLUSTER|REGION/);
    t.match(printed, /imds-guard userdata --os al2023 --cluster prod --region eu-west-1/);
  }));
});

t.test('Windows has no rules, and a template of its own', async (t) => {
  for (const kind of KINDS) for (const age of AGES) t.notMatch(text({ ...kind, ...age, windows: true }), /userdata|imds-guard check/);
  t.match(text({ 'self-managed': true, eksctl: false, new: true, windows: true }), /s3\.us-west-2\.amazonaws\.com\/amazon-eks\/cloudformation\/DATE\/amazon-eks-windows-nodegroup\.yaml/);
});

t.test('China has a bucket of its own', async (t) => {
  for (const place of [{ partition: 'aws-cn' }, { region: 'cn-northwest-1' }] as const) t.match(text({ 'self-managed': true, eksctl: false, new: true, ...place }), /curl -O https:\/\/s3\.cn-north-1\.amazonaws\.com\.cn\/amazon-eks\//);
});

t.test('what is not told leaves rows to choose from', async (t) => {
  const rowsOf = (options: GuideOptions): string[] => ROWS.map(({ deployedAs }) => deployedAs).filter((name) => text(options).split('\n').includes(name));
  t.same(rowsOf({}), ROWS.map(({ deployedAs }) => deployedAs));
  t.match(text({}), /Which are yours\?/);
  t.equal(rowsOf({ managed: true }).length, 2);
  t.equal(rowsOf({ 'self-managed': true, existing: true }).length, 2);
  t.notMatch(text({ managed: true, existing: true }), /--new/);
  const flags = ROWS.flatMap(({ flags }) => flags.split(' '));
  t.ok(flags.every((flag) => text({}).includes(flag)), 'every line says how to ask for its steps');
});

t.test('what cannot be both', async (t) => {
  const mistakes: readonly (readonly [GuideOptions, RegExp])[] = [
    [{ managed: true, 'self-managed': true }, /--managed and --self-managed exclude each other/],
    [{ new: true, existing: true }, /--new and --existing/],
    [{ 'self-managed': true, 'launch-template': true }, /--launch-template is for --managed/],
    [{ managed: true, eksctl: true }, /--eksctl is for --self-managed/],
    [{ windows: true, os: 'al2' }, /--windows and --os al2/],
    [{ cluster: "a'; rm" }, /--cluster .*letters, digits/],
  ];
  for (const [options, because] of mistakes) t.match(readGuide(options) as GuideAsked, { is: 'refused', because });
});
