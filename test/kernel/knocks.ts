import type { Lab, Pod } from '../lab/lab.ts';

/** Knocks at IMDS once from each of many addresses: a connection that is given up as soon as its first packet has left. */
const KNOCKS = `
const { connect } = require('node:net');
const [host, prefix, count] = process.argv.slice(1);
const address = (n) => prefix.includes(':') ? prefix + n.toString(16) : prefix + (n >> 8) + '.' + (n & 255);
(async () => {
  for (let first = 0; first < Number(count); first += 100) {
    const knocks = Array.from({ length: Math.min(100, count - first) }, (_, n) => connect({ host, port: 80, localAddress: address(first + n) }));
    for (const knock of knocks) knock.on('error', (error) => { console.error(String(error)); process.exit(1); });
    await new Promise(setImmediate);
    for (const knock of knocks) knock.destroy();
  }
})();`;

/** Of each network that a pod may make up addresses in. */
export const MADE_UP = { ipv4: { network: '10.99.0.0/16', prefix: '10.99.', imds: '169.254.169.254' }, ipv6: { network: '2001:db8:99::/48', prefix: '2001:db8:99::', imds: 'fd00:ec2::254' } } as const;

/** Every address of these networks is the pod's own from now on: it may send from any of them. */
export async function mayMakeUpAddresses(lab: Lab, pod: Pod): Promise<void> {
  await lab.exec(pod.namespace, 'sh', ['-ec', `echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind; ${Object.values(MADE_UP).map(({ network }) => `ip route add local ${network} dev lo`).join('; ')}`]);
}

/** Rejects when a packet could not be sent. */
export async function knock(lab: Lab, pod: Pod, family: keyof typeof MADE_UP, count: number): Promise<void> {
  const { imds, prefix } = MADE_UP[family];
  const { exitCode, stderr } = await lab.exec(pod.namespace, process.execPath, ['-e', KNOCKS, imds, prefix, String(count)]);
  if (exitCode !== 0 || stderr !== '') throw new Error(`knocking: exit ${exitCode}: ${stderr}`);
}
