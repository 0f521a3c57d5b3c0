// In a pod's network namespace: asks IMDS for tokens and data as fast as it is told to, each time on a new connection, and on
// connections that were open before. Only 169.254.169.254 and fd00:ec2::254.
//
//   nsenter --net=/run/netns/POD node hammer.ts '{"families":[4],"perSecond":250,"lives":20,"livesMs":10000}'
//
// Reads orders, a line each: `begin`, `end`. Prints a line of JSON when its live connections have been answered once
// ({"ready":true}), and a last one with what it got (Hammered).

// Not imported: `import … from 'node:net'` is no slower, but the lab's programs all do it this way (imds-server.ts).
const net = process.getBuiltinModule('node:net');
const { createInterface } = process.getBuiltinModule('node:readline');
type Socket = import('node:net').Socket;

export interface HammerOptions {
  readonly families: readonly (4 | 6)[];
  readonly perSecond: number;
  /** Connections opened before anybody is told to begin; they ask again one after the other over this time. */
  readonly lives: number;
  readonly livesMs: number;
}

export interface Hammered {
  /** Connections tried: a SYN each. One more than this is never sent, for they are given up before the kernel would. */
  readonly attempts: number;
  /** Of those, the ones that were accepted, whatever came then. */
  readonly connected: number;
  readonly tokens: number;
  /** Data without a token, and with one. */
  readonly version1: number;
  readonly version2: number;
  readonly live: { readonly opened: number; readonly asked: number; readonly answered: number };
  /** Attempts that were none, by the error: the pod had no route, no port. */
  readonly failed: Readonly<Record<string, number>>;
  readonly leaks: readonly Leak[];
}

/** Attempts that got through, none between them that did not. Wall clock, ms. */
export interface Leak {
  readonly fromMs: number;
  readonly toMs: number;
  readonly attempts: number;
}

const options = JSON.parse(process.argv[2] ?? '') as HammerOptions;
const address = { 4: '169.254.169.254', 6: 'fd00:ec2::254' } as const;
/** The kernel sends a SYN again after one second. */
const connectWithinMs = 300;
/** What has connected has got through: it gets time, so that a busy machine is not taken for a firewall. */
const answerWithinMs = 2000;
const tickMs = 10;
/** After a pause (a busy machine) no more than this is made up for. */
const mostAtOnce = Math.ceil((options.perSecond * tickMs * 10) / 1000);
const host = 'Host: 169.254.169.254\r\n';
const wordsFor = {
  token: `PUT /latest/api/token HTTP/1.1\r\n${host}X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
  version1: `GET /latest/meta-data/instance-id HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
  version2: (token: string) => `GET /latest/meta-data/instance-id HTTP/1.1\r\n${host}X-aws-ec2-metadata-token: ${token}\r\nConnection: close\r\n\r\n`,
  live: `GET /latest/meta-data/instance-id HTTP/1.1\r\n${host}\r\n`,
};

const counted = { attempts: 0, connected: 0, tokens: 0, version1: 0, version2: 0 };
const live = { opened: 0, asked: 0, answered: 0 };
const failed: Record<string, number> = {};
/** When each attempt began, and whether it got through. */
const fates: { readonly atMs: number; readonly through: boolean }[] = [];

interface Attempt {
  readonly socket: Socket;
  readonly atMs: number;
  connectedAtMs: number | undefined;
}
/** Oldest first. */
const open = new Set<Attempt>();
const lives: Socket[] = [];
let beganMs: number | undefined;
let turns = 0;
let ended: (() => void) | undefined;

createInterface({ input: process.stdin })
  .on('line', line => {
    if (line === 'begin') begin();
    if (line === 'end') end();
  })
  .on('close', () => process.exit());
await Promise.all(Array.from({ length: options.lives }, (_, at) => openLive(familyOf(at))));
say({ ready: true });

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

function familyOf(turn: number): 4 | 6 {
  return options.families[turn % options.families.length] ?? 4;
}

function begin(): void {
  beganMs = performance.now();
  const ticking = setInterval(() => {
    const now = performance.now();
    giveUp(now);
    const due = Math.floor(((now - (beganMs ?? now)) * options.perSecond) / 1000);
    // What a pause has cost is not made up for later either.
    turns = Math.max(turns, due - mostAtOnce);
    for (; turns < due && ended === undefined; turns += 1) attempt(turns);
    askLives(now);
    if (ended !== undefined && open.size === 0) {
      clearInterval(ticking);
      ended();
    }
  }, tickMs);
}

function end(): void {
  ended = () => {
    const report: Hammered = { ...counted, live, failed, leaks: leaksOf() };
    process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit());
  };
  if (beganMs === undefined) ended();
}

function attempt(turn: number): void {
  const family = familyOf(turn);
  const wants = Math.floor(turn / options.families.length) % 2 === 0 ? 'token' : 'version1';
  ask(family, wordsFor[wants], (status, body) => {
    if (status !== 200) return;
    if (wants === 'version1') counted.version1 += 1;
    if (wants !== 'token') return;
    counted.tokens += 1;
    ask(family, wordsFor.version2(body), again => (counted.version2 += again === 200 ? 1 : 0));
  });
}

function ask(family: 4 | 6, words: string, answered: (status: number, body: string) => void): void {
  const one: Attempt = { socket: net.connect({ host: address[family], port: 80 }), atMs: performance.now(), connectedAtMs: undefined };
  open.add(one);
  let text = '';
  one.socket.setEncoding('latin1');
  one.socket.on('connect', () => {
    one.connectedAtMs = performance.now();
    counted.connected += 1;
    one.socket.write(words);
  });
  one.socket.on('data', chunk => (text += String(chunk)));
  one.socket.on('end', () => {
    settle(one);
    answered(Number(text.slice(9, 12)), text.slice(text.indexOf('\r\n\r\n') + 4));
  });
  one.socket.on('error', (error: NodeJS.ErrnoException) => settle(one, error.code));
}

/** One that is in the middle of its answer when the time is up has connected, and counts as through. */
function settle(one: Attempt, error?: string): void {
  if (!open.delete(one)) return;
  one.socket.destroy();
  // A reset is an answer to a SYN; the rest says that none was sent.
  const sent = error === undefined || one.connectedAtMs !== undefined || error === 'ECONNREFUSED' || error === 'ECONNRESET';
  if (!sent) {
    failed[error] = (failed[error] ?? 0) + 1;
    return;
  }
  counted.attempts += 1;
  fates.push({ atMs: one.atMs, through: one.connectedAtMs !== undefined });
}

function giveUp(now: number): void {
  for (const one of open) {
    if (one.connectedAtMs === undefined && now - one.atMs < connectWithinMs) return;
    if (one.connectedAtMs === undefined || now - one.connectedAtMs >= answerWithinMs) settle(one);
  }
}

function openLive(family: 4 | 6): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: address[family], port: 80 });
    socket.on('connect', () => {
      lives.push(socket);
      socket.write(wordsFor.live);
    });
    socket.on('data', () => {
      if (beganMs === undefined) live.opened += 1;
      else {
        live.answered += 1;
        fates.push({ atMs: performance.now(), through: true });
      }
      resolve();
    });
    socket.on('error', reject);
  });
}

/** Each one once: from then on the kernel sends its question again and again, and whatever comes back is counted. */
function askLives(now: number): void {
  const due = Math.min(lives.length, 1 + Math.floor(((now - (beganMs ?? now)) * lives.length) / options.livesMs));
  for (; live.asked < due; live.asked += 1) lives[live.asked]?.write(wordsFor.live);
}

function leaksOf(): Leak[] {
  const leaks: { fromMs: number; toMs: number; attempts: number }[] = [];
  let leaking = false;
  for (const { atMs, through } of fates.sort((a, b) => a.atMs - b.atMs)) {
    const wallMs = performance.timeOrigin + atMs;
    const last = leaks.at(-1);
    if (through && leaking && last !== undefined) {
      last.toMs = wallMs;
      last.attempts += 1;
    } else if (through) leaks.push({ fromMs: wallMs, toMs: wallMs, attempts: 1 });
    leaking = through;
  }
  return leaks;
}
