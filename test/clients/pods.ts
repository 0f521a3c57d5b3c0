// Pods that come and go on the lab's node: fifty and more, so without a resident process each. Wired as the VPC CNI does it,
// with the folder of logs that kubelet makes.
import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import type { Lab } from '../lab/lab.ts';

export interface ShortPod {
  /** `shop/web-1`, as a person would call it. */
  readonly name: string;
  readonly uid: string;
  readonly network: string;
  readonly hostInterface: string;
  readonly address: string;
}

type Node = Pick<Lab, 'exec' | 'node'>;
type Ask = 'v1' | 'v2';

export class Pods {
  private readonly lab: Node;
  /** What the program finds at /var/log. */
  private readonly logs = mkdtempSync(join(tmpdir(), 'imds-guard-logs-'));
  private readonly present = new Map<string, ShortPod>();
  private made = 0;

  constructor(lab: Node) {
    this.lab = lab;
    mkdirSync(join(this.logs, 'pods'));
  }

  /** Words before the program: its /var/log is ours, and nobody else's is changed; `ip netns exec` has left it no cgroups. */
  get before(): readonly string[] {
    return ['unshare', '-m', 'sh', '-ec', 'mount --bind "$0" /var/log; mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null || true; exec "$@"', this.logs];
  }

  async make(count: number): Promise<ShortPod[]> {
    const pods = Array.from({ length: count }, () => this.layOut());
    await ip([], pods.map(({ network }) => `netns add ${network}`));
    await ip(['-n', this.lab.node], pods.flatMap(({ network, hostInterface, address }) => [
      `link add ${hostInterface} address ${HOST_MAC} type veth peer name eth0 netns ${network}`,
      `link set ${hostInterface} addrgenmode none up`,
      `route add ${address} dev ${hostInterface}`,
    ]));
    await Promise.all(pods.map(({ network, address }) => ip(['-n', network], [
      'link set eth0 addrgenmode none up',
      `addr add ${address}/32 dev eth0`,
      'route add 169.254.1.1 dev eth0 scope link',
      'route add default via 169.254.1.1 dev eth0',
      `neigh add 169.254.1.1 lladdr ${HOST_MAC} dev eth0 nud permanent`,
    ])));
    for (const pod of pods) {
      mkdirSync(this.folderOf(pod));
      this.present.set(pod.name, pod);
    }
    return pods;
  }

  /** As kubelet does it: the folder of logs stays for a while. */
  async remove(pods: readonly ShortPod[], folders: 'stay' | 'go' = 'stay'): Promise<void> {
    await ip(['-n', this.lab.node], pods.map(({ hostInterface }) => `link del ${hostInterface}`));
    await ip([], pods.map(({ network }) => `netns del ${network}`));
    for (const pod of pods) {
      this.present.delete(pod.name);
      if (folders === 'go') rmSync(this.folderOf(pod), { recursive: true });
    }
  }

  async removeAll(): Promise<void> {
    await this.remove([...this.present.values()]);
    rmSync(this.logs, { recursive: true });
  }

  /** @returns the status of the last answer, or undefined where none came in time */
  async ask({ network }: ShortPod, version: Ask, patienceSeconds = 2): Promise<number | undefined> {
    const { stdout } = await this.lab.exec(network, 'timeout', [String(patienceSeconds), 'bash', '-c', ASK[version]]);
    return Number(/HTTP\/1\.[01] (\d+)[^]*$/.exec(stdout.slice(stdout.lastIndexOf('HTTP/1')))?.[1] ?? Number.NaN) || undefined;
  }

  private layOut(): ShortPod {
    const number = (this.made += 1);
    const name = `web-${number}`;
    return {
      name: `shop/${name}`,
      uid: randomUUID(),
      network: `${this.lab.node}-short${number}`,
      hostInterface: `eni${createHash('sha1').update(`shop.${name}`).digest('hex').slice(0, 11)}`,
      address: `10.0.1.${number}`,
    };
  }

  private folderOf({ name, uid }: ShortPod): string {
    return join(this.logs, 'pods', `${name.replace('/', '_')}_${uid}`);
  }

}

/** Not by lab.exec, nor with `-n`: those have mounts of their own, and a namespace that is made there is mounted for nobody else. */
async function ip(where: readonly string[], lines: readonly string[]): Promise<void> {
  await execa('ip', [...where, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

const HOST_MAC = '02:00:00:00:01:01';

/** bash knows /dev/tcp, and starts in two milliseconds. */
const EXCHANGE = 'exchange() { exec 3<>/dev/tcp/169.254.169.254/80 && printf "$1" >&3 && cat <&3; };';
const ASK: Readonly<Record<Ask, string>> = {
  v1: `${EXCHANGE} exchange 'GET /latest/meta-data/ HTTP/1.0\\r\\n\\r\\n'`,
  v2: `${EXCHANGE} token=$(exchange 'PUT /latest/api/token HTTP/1.0\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n' | tail -n 1); exchange "GET /latest/meta-data/ HTTP/1.0\\r\\nX-aws-ec2-metadata-token: $token\\r\\n\\r\\n"`,
};
