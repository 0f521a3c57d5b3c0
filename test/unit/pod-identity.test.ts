import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { podNames } from '../../agent/core/clients/identity.ts';
import { podNames as podNamesOf } from '../../agent/effects/pod-names.ts';

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');
const uid = '0f5c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b';
const other = '1a2b3c4d-3c4d-4e5f-8a9b-0c1d2e3f4a5b';
const id = '4be2f0d1'.repeat(8);
const web = { namespace: 'shop', name: 'web-0', uid };

t.test('the cgroup of a process names its pod, whoever wrote it', async (t) => {
  const names = podNames([`shop_web-0_${uid}`, `kube-system_kube-proxy-ip-10-0-0-10.ec2.internal_${'ab12'.repeat(8)}`], sha1);
  t.same(names.ofCgroup(`0::/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-${id}.scope\n`), web, 'systemd');
  t.same(names.ofCgroup(`4:memory:/kubepods/burstable/pod${uid}/${id}\n`), web, 'cgroup v1');
  t.same(names.ofCgroup(`/kubepods.slice/kubepods-pod${uid.replaceAll('-', '_')}.slice`), web, 'the path of a cgroup');
  t.same(names.ofCgroup(`0::/kubepods/pod${'ab12'.repeat(8)}/${id}`), { namespace: 'kube-system', name: 'kube-proxy-ip-10-0-0-10.ec2.internal', uid: 'ab12'.repeat(8) }, 'a static pod');
  t.same(names.ofCgroup(`0::/kubepods/pod${other}/${id}`), { uid: other }, 'a pod without a folder');
  t.equal(names.ofCgroup('0::/system.slice/kubelet.service'), undefined, 'no pod');
});

t.test('the name of a host interface names its pod, under any prefix', async (t) => {
  const names = podNames([`shop_web-0_${uid}`], sha1);
  const hash = sha1('shop.web-0').slice(0, 11);
  for (const prefix of ['eni', 'vlan', 'cali', 'foo', 'x']) t.same(names.ofInterface(`${prefix}${hash}`), web, prefix);
  t.equal(names.ofInterface(`vethx${hash}`), undefined, 'too long a prefix: no name that Linux would take');
  t.equal(names.ofInterface(hash), undefined);
  t.equal(names.ofInterface(`eni${sha1('shop.web-1').slice(0, 11)}`), undefined);
  t.equal(names.ofInterface('ens5'), undefined);
});

t.test('a pod that came back under its name has no certain UID', async (t) => {
  const names = podNames([`shop_web-0_${uid}`, `shop_web-0_${other}`], sha1);
  t.same(names.ofInterface(`eni${sha1('shop.web-0').slice(0, 11)}`), { namespace: 'shop', name: 'web-0' });
  t.same(names.ofCgroup(`0::/kubepods/pod${other}/${id}`), { ...web, uid: other });
});

t.test('two pods whose interface would have one name: neither is named', async (t) => {
  const names = podNames([`shop_web-0_${uid}`, `shop_web-1_${other}`], () => '0123456789abcdef');
  t.equal(names.ofInterface('eni0123456789a'), undefined);
});

t.test('folders of other names are no pods', async (t) => {
  for (const folder of ['', 'lost+found', 'shop_web-0', `shop_web_0_${uid}`, `Shop_web_${uid}`, `shop_-web_${uid}`, `shop_web\x1b[31m_${uid}`, `shop_web_${uid}\n`, `../x_web_${uid}`, `shop_${'a'.repeat(254)}_${uid}`]) {
    t.same(podNames([folder], sha1).all, [], JSON.stringify(folder));
  }
});

t.test('a node', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'imds-guard-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  t.same(podNamesOf({ root }).all, [], 'without folders');
  mkdirSync(join(root, `var/log/pods/shop_web-0_${uid}`), { recursive: true });
  writeFileSync(join(root, 'var/log/pods/README'), '');
  t.same(podNamesOf({ root }).all, [web]);
});
