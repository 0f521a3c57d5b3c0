// A process beside: every second it writes a thousand nat rules again, as kube-proxy does on a node where pods come and
// go all the time (its minSyncPeriod is a second), until its parent ends or sends it away.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { RULES_A_SERVICE, kubeSync, servicesFrom } from './kube-sync.ts';

const RULES = 1000;
const EVERY_MS = 1000;
const services = RULES / RULES_A_SERVICE;

let written = 0;
let running = false;

async function sync(): Promise<void> {
  running = true;
  const child = spawn('iptables-nft-restore', ['--noflush', '--counters', '-w', '5'], { stdio: ['pipe', 'ignore', 'inherit'] });
  // Other pods each time, so that what is written is not what was there.
  child.stdin.end(kubeSync(servicesFrom(0, services, Math.round(written / RULES))));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 0) written += RULES;
  running = false;
}

void sync();
setInterval(() => {
  if (!running) void sync();
}, EVERY_MS);
process.on('disconnect', () => process.exit());
process.on('message', () => process.send?.({ written }));
