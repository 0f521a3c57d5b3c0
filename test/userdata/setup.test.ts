// The whole script of the user data on a node, with a systemctl that only notes what it is told.
import t from 'tap';
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchScript } from '../../agent/core/userdata/fetch-script.ts';
import { rulesScript } from '../../agent/core/userdata/rules-script.ts';
import { daemonUnit, fetchUnit, rulesUnit } from '../../agent/core/userdata/units.ts';
import { type Before, expected, fates } from '../kernel/guard.ts';
import { among, without } from '../kernel/surroundings.ts';
import { type Execed, type Lab, makeLab } from '../lab/lab.ts';
import { FROM_S3, rendered, wanted } from './renderings.ts';

const { executable } = wanted({ os: 'al2023', ...FROM_S3 });

/** Folders that stand for the node's, so that they are there for the next boot. */
class Disk {
  readonly root = mkdtempSync(join(tmpdir(), 'imds-guard-'));
  constructor() {
    writeFileSync(join(this.root, 'systemctl'), `#!/bin/sh\necho "$*" >>${this.root}/calls\n`);
    chmodSync(join(this.root, 'systemctl'), 0o755);
  }
  read = (name: string): string => readFileSync(join(this.root, name), 'utf8');
  list = (name: string): string[] => (existsSync(join(this.root, name)) ? readdirSync(join(this.root, name)).sort() : []);
  calls(): string[] {
    const calls = existsSync(join(this.root, 'calls')) ? this.read('calls').trimEnd().split('\n') : [];
    rmSync(join(this.root, 'calls'), { force: true });
    return calls;
  }
  remove = (): void => rmSync(this.root, { recursive: true });
}

function run(lab: Lab, disk: Disk, script: string, { more = '', before = [] }: { readonly more?: string; readonly before?: Before } = {}): Promise<Execed> {
  writeFileSync(join(disk.root, 'setup.sh'), script);
  const onDisk = among(`
mkdir -p ${disk.root}/opt ${disk.root}/units ${disk.root}/run /etc/systemd/system /run/systemd/system
mount --bind ${disk.root}/opt /opt
mount --bind ${disk.root}/units /etc/systemd/system
mount --bind ${disk.root}/run /run/systemd/system
mount --bind ${disk.root}/systemctl "$(readlink -f "$(command -v systemctl)")"
${more}`);
  const [file = 'sh', ...args] = [...before, ...onDisk, 'sh', join(disk.root, 'setup.sh')];
  return lab.exec(lab.node, file, args, { timeoutMs: 60_000 });
}

const UNITS = ['imds-guard-fetch.service', 'imds-guard-rules.service', 'imds-guard.service'];
const noSystemctl = ['/usr/bin/systemctl', '/bin/systemctl'].some((file) => existsSync(file)) ? false : 'NO systemctl here to stand in for';

await t.test('everything is written, the rules first, and what downloads is waited for by nobody', { skip: noSystemctl }, async (t) => {
  const [lab, disk] = [await makeLab({ pods: { ordinary: 'eni', branch: 'vlan', six: 'v6' }, hopLimit: 2 }), new Disk()];
  t.teardown(lab.remove);
  t.teardown(disk.remove);
  const script = rendered({ os: 'al2023', format: 'script', ...FROM_S3 });
  t.match(await run(lab, disk, script), { exitCode: 0, stderr: '', stdout: /ipv4: in place, by iptables\n[\s\S]*imds-guard: set up\n$/ });
  t.same(await fates(lab, ['node', ...Object.values(lab.pods)]), expected(Object.values(lab.pods), 'timeout'));
  t.same(disk.list('units'), UNITS);
  t.same(disk.list('opt/imds-guard'), ['fetch.sh', 'rules.sh'], 'and nothing half written');
  t.same([disk.read('opt/imds-guard/rules.sh'), disk.read('opt/imds-guard/fetch.sh')], [rulesScript(), fetchScript(executable!, FROM_S3.region)]);
  t.same(UNITS.map((name) => disk.read(`units/${name}`)), [fetchUnit(), rulesUnit(), daemonUnit()]);
  t.equal(disk.read('run/kubelet.service.d/imds-guard.conf'), '[Unit]\nRequires=imds-guard-rules.service\nAfter=imds-guard-rules.service\n');
  const calls = ['daemon-reload', 'daemon-reload', 'enable imds-guard-rules.service', 'start imds-guard-rules.service', 'enable imds-guard-fetch.service imds-guard.service', '--no-block restart imds-guard-fetch.service'];
  t.same(disk.calls(), calls);
  t.match(await run(lab, disk, script), { exitCode: 0, stderr: '' }, 'a second time');
  t.same(disk.calls(), calls);
});

await t.test('rules alone: no download', { skip: noSystemctl }, async (t) => {
  const [lab, disk] = [await makeLab({ pods: { ordinary: 'eni' }, hopLimit: 2 }), new Disk()];
  t.teardown(lab.remove);
  t.teardown(disk.remove);
  t.match(await run(lab, disk, rendered({ os: 'ubuntu', format: 'script' })), { exitCode: 0, stderr: '' });
  t.same(disk.list('units'), ['imds-guard-rules.service', 'imds-guard.service']);
  t.same(disk.list('opt/imds-guard'), ['rules.sh']);
  t.same(disk.calls().slice(4), ['enable imds-guard.service', '--no-block start imds-guard.service'], 'an image may have it');
  t.same(await fates(lab, ['node', lab.pods.ordinary]), expected([lab.pods.ordinary], 'timeout'));
});

await t.test('what goes wrong holds kubelet, and is said', { skip: noSystemctl }, async (t) => {
  const script = rendered({ os: 'al2023', format: 'script', ...FROM_S3 });
  const wrong = [
    { what: 'nothing can be written below /etc', more: 'mount -o remount,bind,ro /etc/systemd/system', says: /FAILED: \/etc\/systemd\/system\/imds-guard-rules\.service cannot be written\n.*kubelet does not start on this node/ },
    { what: 'nothing can be written below /opt', more: 'mount -o remount,bind,ro /opt', says: /FAILED: \/opt\/imds-guard\/rules\.sh cannot be written/ },
    { what: 'there is no iptables', before: without('iptables*'), says: /FAILED: the rules could not be put in place/ },
  ];
  for (const { what, says, ...how } of wrong) {
    const [lab, disk] = [await makeLab({ pods: {} }), new Disk()];
    t.teardown(lab.remove);
    t.teardown(disk.remove);
    t.match(await run(lab, disk, script, how), { exitCode: 1, stderr: says }, what);
    t.match(disk.read('run/kubelet.service.d/imds-guard.conf'), /^Requires=imds-guard-rules\.service$/m, 'kubelet cannot start without the rules');
    t.notMatch(disk.calls().join('\n'), /fetch/, 'nothing is fetched');
  }
});

await t.test('the old snippet is found, and its end explained', { skip: noSystemctl }, async (t) => {
  const [lab, disk] = [await makeLab({ pods: {} }), new Disk()];
  t.teardown(lab.remove);
  t.teardown(disk.remove);
  const old = `
layers=$(mktemp -d /run/layers.XXXXXX)
mkdir $layers/upper $layers/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=$layers/upper,workdir=$layers/work /etc
mkdir -p /etc/sysconfig
echo "*filter" >/etc/sysconfig/iptables
mount --bind ${disk.root}/units /etc/systemd/system`;
  t.match(await run(lab, disk, rendered({ os: 'al2', format: 'script' }), { more: old }), { exitCode: 0, stdout: /iptables\.service loads \/etc\/sysconfig\/iptables at boot[\s\S]*systemctl disable iptables\.service && mv/ });
});
