// The software bill of materials of an image's root, CycloneDX 1.6: the npm packages that are in the bundles (build.mjs wrote
// them down), Node itself, and the Debian packages that gave files. The same root gives the same bytes.
import { readFileSync, readdirSync } from 'node:fs';

const [, , root] = process.argv;
const read = (name) => readFileSync(`${root}/${name}`, 'utf8');

const ours = JSON.parse(read('opt/imds-guard/packages.json'));
const release = Object.fromEntries(read('etc/os-release').split('\n').map((line) => line.split('=')));
const packages = 'var/lib/dpkg/status.d';

const fromNpm = ours.packages.map(({ name, version, license, integrity }) => ({
  type: 'library',
  name,
  version,
  ...(license === undefined ? {} : { licenses: [{ expression: license }] }),
  ...(integrity === undefined ? {} : { hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex') }] }),
  purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
}));
const fromDebian = readdirSync(`${root}/${packages}`).sort().map((file) => {
  const fields = Object.fromEntries(read(`${packages}/${file}`).split('\n').flatMap((line) => (/^\w[\w-]*: /.test(line) ? [[line.split(': ', 1)[0], line.replace(/^[^:]*: /, '')]] : [])));
  const version = encodeURIComponent(fields.Version);
  return { type: 'library', name: fields.Package, version: fields.Version, purl: `pkg:deb/debian/${fields.Package}@${version}?arch=${fields.Architecture}&distro=debian-${release.VERSION_ID?.replaceAll('"', '')}` };
});

const bill = {
  bomFormat: 'CycloneDX',
  specVersion: '1.6',
  version: 1,
  metadata: { component: { type: 'container', 'bom-ref': 'imds-guard', name: 'imds-guard', version: ours.version, licenses: [{ expression: 'Apache-2.0' }] } },
  components: [...fromNpm, ...fromDebian].map((component) => ({ ...component, 'bom-ref': component.purl })),
};
process.stdout.write(`${JSON.stringify(bill, null, 1)}\n`);
