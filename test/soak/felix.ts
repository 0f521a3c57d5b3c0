// Writes filter FORWARD as Felix does (projectcalico/calico, felix/iptables/table.go; ChainInsertMode insert): its jump on top,
// its pair at the end. It reads when its timers say so, and where a foreign rule stands above its jump or below its pair it
// takes its own rules away by value and puts them where it wants them. It never touches a foreign rule.
import type { Lab } from '../lab/lab.ts';
import type { Running } from './running.ts';

export interface FelixTimers {
  /** IptablesRefreshInterval: 180 since v3.27, 90 before. */
  readonly refreshSeconds: number;
  /** IptablesPostWriteCheckInterval: 5 since v3.27, 1 before; the next checks come after twice as long, and so on. */
  readonly postWriteSeconds: number;
}

export const felixTimers: FelixTimers = { refreshSeconds: 180, postWriteSeconds: 5 };

const hashes = { jump: 'wUHhoiAYhphO9Mso', accept: 'S93hcgKJrXEqnTfs', mark: 'mp77cMpurHhyjLrM' } as const;
const tag = (hash: string): string => `-m comment --comment "cali:${hash}"`;
const jump = `FORWARD ${tag(hashes.jump)} -j cali-FORWARD`;
const pair = [
  `FORWARD ${tag(hashes.accept)} -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT`,
  `FORWARD ${tag(hashes.mark)} -j MARK --set-xmark 0x10000/0x10000`,
] as const;

/** Until v3.15 what its policies allow is accepted in its own chain, above whatever comes after. */
const chain = [
  ':cali-FORWARD - [0:0]',
  `-A cali-FORWARD ${tag('vjrMJCRpqwy5oRoX')} -j MARK --set-xmark 0x0/0xe0000`,
  `-A cali-FORWARD -i eni+ ${tag('zSuvpsKZMnLBOFg-')} -j MARK --set-xmark 0x10000/0x10000`,
  `-A cali-FORWARD ${tag('KHV1shAhs1mIlf-Z')} -m mark --mark 0x10000/0x10000 -j ACCEPT`,
];

export function felix(lab: Lab, timers: FelixTimers = felixTimers): Running {
  let writes = 0;
  let trouble = '';
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let lastReadMs = -Infinity;
  let lastWriteMs = -Infinity;
  let checkAfterMs = 0;
  let applying = Promise.resolve();

  const schedule = (): void => {
    if (stopped) return;
    const at = Math.min(lastReadMs + timers.refreshSeconds * 1000, lastWriteMs + checkAfterMs);
    timer = setTimeout(() => (applying = apply()), Math.max(50, at - performance.now()));
  };
  const apply = async (): Promise<void> => {
    const { stdout } = await lab.exec(lab.node, 'iptables-nft-save', ['-t', 'filter']);
    lastReadMs = performance.now();
    checkAfterMs *= 2;
    if (!inSync(stdout)) await write(stdout);
    schedule();
  };
  const write = async (saved: string): Promise<void> => {
    const own = saved.split('\n').filter(line => line.startsWith('-A FORWARD ') && line.includes('"cali:'));
    const script = ['*filter', ...chain, ...own.map(line => line.replace('-A', '-D')), `-I ${jump}`, ...pair.map(rule => `-A ${rule}`), 'COMMIT', ''].join('\n');
    const { exitCode, stderr } = await lab.exec(lab.node, 'iptables-nft-restore', ['--noflush', '--wait', '10'], { stdin: script });
    if (exitCode === 0) writes += 1;
    else trouble = stderr;
    lastWriteMs = performance.now();
    checkAfterMs = timers.postWriteSeconds * 1000;
  };
  applying = apply();
  return {
    rounds: () => writes,
    trouble: () => trouble,
    stop: async () => {
      stopped = true;
      clearTimeout(timer);
      await applying;
    },
  };
}

/** Its jump first, whatever foreign rules, its pair last; and its chain as it was written. */
function inSync(saved: string): boolean {
  const lines = saved.split('\n');
  const forward = lines.filter(line => line.startsWith('-A FORWARD ')).map(line => /"cali:([^"]+)"/.exec(line)?.[1]);
  const own = lines.filter(line => line.startsWith('-A cali-FORWARD '));
  return forward[0] === hashes.jump && forward.at(-2) === hashes.accept && forward.at(-1) === hashes.mark && own.length === chain.length - 1;
}
