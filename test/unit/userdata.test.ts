import t from 'tap';
import { spawnSync } from 'node:child_process';
import { desired } from '../../agent/core/desired.ts';
import { bareGuardScript, guardScript } from '../../agent/core/guard-table.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { dnsAddress } from '../../agent/core/userdata/joining.ts';
import { hereDocument, indented, shellWord } from '../../agent/core/userdata/quote.ts';
import { type UserDataOptions, readWanted } from '../../agent/core/userdata/read-wanted.ts';
import { MOST_BYTES, THEIR_BYTES, renderUserData } from '../../agent/core/userdata/render.ts';
import { rulesScript } from '../../agent/core/userdata/rules-script.ts';
import { setupScript } from '../../agent/core/userdata/setup-script.ts';
import { daemonUnit, rulesUnit } from '../../agent/core/userdata/units.ts';
import { userData } from '../../agent/core/userdata/user-data.ts';
import { FORMATS, OSES } from '../../agent/core/userdata/wanted.ts';
import { randomOf } from '../fuzz/random.ts';
import { FROM_S3, FROM_WEB, JOINING, NOTHING_GIVEN, rendered, wanted } from '../userdata/renderings.ts';

const GOOD: UserDataOptions = { ...NOTHING_GIVEN, os: 'al2023', cluster: 'example', ...FROM_S3, ...JOINING };
const OS = { ...NOTHING_GIVEN, os: 'al2023', cluster: 'example' } as const;

const refused: readonly (readonly [Partial<UserDataOptions>, RegExp])[] = [
  [{ os: undefined }, /^--os is needed: al2023, al2, bottlerocket or ubuntu$/],
  [{ cluster: undefined }, /^--cluster is needed/],
  [{ os: 'bottlerocket', format: 'script' }, /nothing can be installed/],
  [{ format: 'eksctl' }, /^--format eksctl needs --region/],
  ...['', '-x', 'a b', 'a$(id)', "a'b", 'a"b', 'a\nb', 'a/b', 'ä', 'a'.repeat(101)].map((cluster) => [{ cluster }, /^--cluster .*no name of an EKS cluster/s] as const),
  ...['eu', 'eu-west-1a', 'EU-WEST-1', 'eu-west-0', 'us-gov', 'eu-west-1 ', "eu-west-1'", 'eu-west-1\n'].map((region) => [{ region }, /^--region .*no region/s] as const),
  [{ region: 'cn-north-1', partition: 'aws' }, /^--region cn-north-1 is of partition aws-cn, not aws$/],
  [{ executableUrl: FROM_WEB.executableUrl }, /needs --executable-sha256/],
  [{ executableSha256: FROM_WEB.executableSha256 }, /needs --executable-url/],
  [{ ...FROM_S3, region: undefined }, /^--executable-url s3:\/\/… needs --region/],
  [{ os: 'bottlerocket', ...FROM_WEB }, /not for bottlerocket/],
  [{ os: 'al2', ...FROM_WEB }, /not for al2, whose glibc is 2\.26/],
  ...['ftp://h/a', 'file:///etc/passwd', 'https://', 'https://h', 'https://h/', 'https://h/a b', "https://h/a'b", 'https://h/$(id)', 'https://h/`id`', 'https://h/a;b', 'https://h/a#b', 'https://u:p@h/a', 's3://b', 's3://B/k', "s3://b/k'", 's3://bucket/k y', '-oProxy', 'https://h/{x}', 'https://h/a\nb', 'https://h/a|b', 'https://h/${x}', 'https://h/%{if}'].map(
    (executableUrl) => [{ ...FROM_WEB, region: 'eu-west-1', executableUrl }, /^--executable-url .*an address such as https:\/\/HOST\/PATH or s3:\/\/BUCKET\/KEY is expected/s] as const,
  ),
  ...['', 'abc', 'g'.repeat(64), 'A'.repeat(64), '0'.repeat(63), `x86=${'0'.repeat(64)}`, `${'0'.repeat(64)}\n`, `${'0'.repeat(64)};id`].map((hash) => [{ ...FROM_WEB, executableSha256: [hash] }, /^--executable-sha256 .*64 hexadecimal digits/s] as const),
  [{ ...FROM_WEB, executableSha256: ['0'.repeat(64), '1'.repeat(64)] }, /given twice/],
  [{ ...FROM_S3, executableSha256: [`x64=${'0'.repeat(64)}`, '1'.repeat(64)] }, /either one for all, or x64/],
  [{ ...FROM_S3, executableSha256: ['0'.repeat(64)] }, /with \{arch\} needs/],
  [{ ...FROM_WEB, executableSha256: FROM_S3.executableSha256 }, /needs \{arch\} where there are two hashes/],
  [{ ...FROM_WEB, executableUrl: 'https://b.s3.cn-north-1.amazonaws.com.cn/k' }, /is in China: give its --region/],
  [{ ...FROM_WEB, region: 'cn-north-1', executableUrl: 'https://b.s3.eu-west-1.amazonaws.com/k' }, /endpoints of partition aws-cn end in amazonaws\.com\.cn/],
  [{ ...JOINING, region: 'cn-north-1' }, /^--api-server .*endpoints of partition aws-cn/],
  [{ apiServer: JOINING.apiServer }, /needed together; aws eks describe-cluster/],
  [{ ...JOINING, serviceCidr: undefined }, /AL2023 nodes need --service-cidr/],
  ...['http://h', 'https://h/', 'https://h h', "https://h'", 'https://h"\n', 'h'].map((apiServer) => [{ ...JOINING, apiServer }, /^--api-server .*https:\/\/HOST is expected/s] as const),
  ...['', 'abc', 'LS0t', `${JOINING.clusterCa}"`, `${JOINING.clusterCa}\n`, `${JOINING.clusterCa}$(id)`].map((clusterCa) => [{ ...JOINING, clusterCa }, /^--cluster-ca: a certificate in base64/] as const),
  ...['', '10.0.0.0', '10.0.0.0/33', '10.0.0/8', '::/129', "10.0.0.0/8'", '10.0.0.0/8\n', 'any/0'].map((serviceCidr) => [{ ...JOINING, serviceCidr }, /^--service-cidr .*is expected/s] as const),
  ...(['karpenter', 'eksctl', 'script'] as const).map((format) => [{ ...JOINING, region: 'eu-west-1', format }, /are not for --format/] as const),
  [{ os: 'ubuntu' }, /^Ubuntu nodes join by their user data: --api-server and --cluster-ca are needed/],
  [{ os: 'ubuntu', format: 'karpenter' }, /^Ubuntu nodes join/],
];

t.test('a mistake is told in a line that says what is expected', async (t) => {
  for (const [options, says] of refused) t.match(readWanted({ ...OS, ...options }), { is: 'refused', because: says }, JSON.stringify(options));
});

t.test('what is right is taken', async (t) => {
  for (const region of ['eu-west-1', 'us-gov-west-1', 'cn-northwest-1', 'ap-southeast-4', 'il-central-1', 'mx-central-1']) t.notOk('is' in readWanted({ ...OS, region }), region);
  t.equal(wanted({ os: 'al2023', region: 'cn-north-1' }).partition, 'aws-cn');
  t.equal(wanted({ os: 'al2023', region: 'us-gov-east-1' }).partition, 'aws-us-gov');
  for (const executableUrl of ['http://10.0.0.1:8080/imds-guard', 'https://h/a?X-Amz-Signature=0a&x=%2F', 'https://b.s3.eu-west-1.amazonaws.com/imds-guard-linux-x64']) t.notOk('is' in readWanted({ ...OS, ...FROM_WEB, executableUrl }), executableUrl);
  t.notOk('is' in readWanted({ ...OS, ...FROM_WEB, region: 'cn-north-1', executableUrl: 'https://b.s3.cn-north-1.amazonaws.com.cn/k' }));
  t.notOk('is' in readWanted({ ...OS, ...JOINING, region: 'cn-north-1', apiServer: 'https://0A.yl4.cn-north-1.eks.amazonaws.com.cn' }));
  t.notOk('is' in readWanted({ ...NOTHING_GIVEN, os: 'ubuntu', format: 'script' }), 'a script needs no cluster');
});

t.test('no value gets more into a script than itself', async (t) => {
  const random = randomOf(20261124);
  const hostile = ["'", '"', '`', '$(id)', '${IFS}', ';', '\n', '\r', '\0', '\\', '|', '&&', '<(', ' ', '#', '%{if', '{arch}', '\u202e', 'END', '\nRULES_SCRIPT\n', '--IMDS-GUARD-PART', 'EOT\n', '*', '~', '!', 'é', '=', '&', '?', '%2F', '/../', 'a', '0'];
  const keys = ['cluster', 'region', 'executableUrl', 'apiServer', 'clusterCa', 'serviceCidr'] as const;
  let taken = 0;
  for (let round = 0; round < 20_000; round++) {
    const key = random.pick([...keys, 'executableSha256'] as const);
    const [good = ''] = [GOOD[key]].flat();
    const at = random.int(good.length + 1);
    const bad = good.slice(0, at) + random.pick(hostile) + (random.chance(0.5) ? random.pick(hostile) : '') + good.slice(random.chance(0.5) ? at : at + 1);
    const options = { ...GOOD, os: random.pick(['al2023', 'ubuntu'] as const), [key]: key === 'executableSha256' ? [bad, ...GOOD.executableSha256.slice(1)] : bad };
    const read = readWanted(options);
    if ('is' in read) continue;
    taken++;
    if (!/^[\w.~%+=:@,&?{}/-]+$/.test(bad) || /[{}]/.test(bad.replaceAll('{arch}', ''))) t.fail(`${key} ${JSON.stringify(bad)} was taken`);
    const text = renderUserData(read);
    if (typeof text !== 'string') t.fail(text.because);
  }
  t.ok(taken > 300, `${taken} of 20000 were taken`);
});

t.test('a word is one word for the shell, whatever is in it', async (t) => {
  for (const text of ["it's", '$(id)`id`${HOME}', '"\\', ' a  b ', '*', '-n', '\n', "''", 'ä\t;']) t.equal(spawnSync('sh', ['-c', `printf %s ${shellWord(text)}`], { encoding: 'utf8' }).stdout, text);
  t.throws(() => hereDocument('END', 'a\nEND\nb'), /holds a line END/);
  t.equal(spawnSync('sh', ['-c', `cat ${hereDocument('END', '$HOME `id` \\ END\n END\n')}`], { encoding: 'utf8' }).stdout, '$HOME `id` \\ END\n END\n');
  t.equal(indented('a\n\n b\n', 2), '  a\n\n   b\n');
});

t.test('the rules of the script are the desired ones, the tagged one of each family first', async (t) => {
  const calls = [...rulesScript().matchAll(/^ +rule (filter|mangle) (-[IA] .*?)(?: &&| ;;)$/gm)].map(([, table, words]) => `${table} ${words}`);
  const wantedRules = desired(DEFAULT_SETTINGS, [], ['ipv4', 'ipv6']).rules.map(({ table, text, position }) => `${table} ${text.replace('-A', position === 'first' ? '-I' : '-A')}`);
  t.same(calls.toSorted(), wantedRules.toSorted());
  t.match(calls[0], /^mangle -A FORWARD .*imds-guard/);
  t.match(calls[3], /^mangle -A FORWARD .*imds-guard/);
  const forward = /  chain forward \{[\s\S]*?\n  \}\n/.exec(guardScript('drop'))?.[0] ?? 'none';
  t.ok(bareGuardScript().includes(forward) && rulesScript().includes(bareGuardScript()), 'the table drops what the agent\'s drops');
  t.notMatch(rulesScript(), /iptables-save|-F\b|-P\b|--flush|--policy|curl|wget|aws /, 'nothing else, and no download');
});

t.test('the rules come before kubelet, and kubelet not without them', async (t) => {
  for (const line of [/^Before=kubelet\.service snap\.kubelet-eks\.daemon\.service$/m, /^RequiredBy=kubelet\.service snap\.kubelet-eks\.daemon\.service$/m, /^Type=oneshot$/m, /^RemainAfterExit=yes$/m]) t.match(rulesUnit(), line);
  t.notMatch(rulesUnit(), /network-online/, 'they wait for no network');
  for (const line of [/^Type=notify$/m, /^Restart=always$/m, /^FileDescriptorStoreMax=1$/m, /^ExecStart=\/opt\/imds-guard\/imds-guard watch$/m]) t.match(daemonUnit(), line);
  t.notMatch(daemonUnit(), /^MemoryDenyWriteExecute/m, 'a JIT writes what it executes');
  const script = setupScript(wanted({ os: 'al2023', ...FROM_S3 }));
  t.ok(script.indexOf('/run/systemd/system') < script.indexOf('mkdir -p /opt'), 'kubelet is held before anything can fail');
  t.ok(script.indexOf('systemctl start imds-guard-rules.service') < script.indexOf('restart imds-guard-fetch'), 'rules first, the download after');
});

t.test('the DNS address of a block of services', async (t) => {
  for (const [cidr, address] of [['10.100.0.0/16', '10.100.0.10'], ['172.20.0.0/16', '172.20.0.10'], ['fd12:3456:789a::/108', 'fd12:3456:789a::a']] as const) t.equal(dnsAddress(cidr), address);
});

t.test('EC2 takes 16 KB: what is more is refused, with what to do', async (t) => {
  const long = (bytes: number): Partial<UserDataOptions> => ({ ...FROM_WEB, executableUrl: `https://example.com/${'a'.repeat(bytes)}` });
  const size = Buffer.byteLength(userData(wanted({ os: 'al2023', ...long(1) })));
  const room = MOST_BYTES - THEIR_BYTES - size + 1;
  t.type(renderUserData(wanted({ os: 'al2023', ...long(room) })), 'string', 'to the last byte');
  t.match(renderUserData(wanted({ os: 'al2023', ...long(room + 1) })), { is: 'refused', because: /^the user data is 16385 bytes, with 3072 for what joins the node, and EC2 takes 16384: give a shorter --executable-url/ });
  for (const format of FORMATS.filter((one) => one !== 'script')) t.match(renderUserData(wanted({ os: 'al2023', region: 'eu-west-1', format, ...long(room + 1) })), { is: 'refused' }, format);
  for (const os of OSES) t.ok(Buffer.byteLength(rendered({ os, ...(os === 'al2023' || os === 'ubuntu' ? FROM_S3 : {}), ...JOINING })) < MOST_BYTES - THEIR_BYTES, `${os}, with room for more`);
});
