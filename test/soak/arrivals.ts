// Packets of pods that arrive where IMDS is, counted there by the kernel: whatever a client made of them.
import type { Lab } from '../lab/lab.ts';

const table = `
table inet arrivals {
  counter pods { }
  chain arriving {
    type filter hook prerouting priority -300
    ip daddr 169.254.169.254 ip saddr != 10.0.0.10 counter name pods
    ip6 daddr fd00:ec2::254 ip6 saddr != 2001:db8:0:1::10 counter name pods
  }
}`;

export async function countArrivals(lab: Lab): Promise<void> {
  await nft(lab, ['-f', '-'], table);
}

/** Since the last time. */
export async function arrived(lab: Lab): Promise<number> {
  const said = await nft(lab, ['reset', 'counter', 'inet', 'arrivals', 'pods']);
  const packets = /packets (\d+)/.exec(said)?.[1];
  if (packets === undefined) throw new Error(`no counter in: ${said}`);
  return Number(packets);
}

async function nft(lab: Lab, args: readonly string[], stdin = ''): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.exec(lab.imds, 'nft', args, { stdin });
  if (exitCode !== 0) throw new Error(`nft ${args.join(' ')}: ${stderr}`);
  return stdout;
}
