// What a guard table has counted goes over into the one that takes its place, and never costs a drop.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { type CountSet, COUNT_SETS, GUARD_TABLE, type GuardAct, SINCE_SET, guardScript } from '../../agent/core/guard-table.ts';
import type { ClientCounts } from '../../agent/core/clients/counts.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import type { GuardForm } from '../../agent/core/watch/guard-batch.ts';
import { GuardKeeper } from '../../agent/effects/guard-keeper.ts';
import { readCounts } from '../../agent/effects/read-counts.ts';
import { ERRNO, KernelError, NetlinkRequests } from '../../agent/node-iptables/src/kernel/index.ts';

const DAY = 24 * 3_600_000;
const HOUR = 3_600_000;
const observing = { ...DEFAULT_SETTINGS, mode: 'observe' } as const;

/** nft in the test's own namespace, which has no rules but ours. */
async function nft(script: string): Promise<string> {
  const child = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'pipe', 'pipe'] });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (part: Buffer) => out.push(part));
  child.stderr.on('data', (part: Buffer) => err.push(part));
  child.stdin.end(script);
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(Buffer.concat(err).toString());
  return Buffer.concat(out).toString();
}
const listing = (): Promise<string> => nft(`list table inet ${GUARD_TABLE}\n`);
const drops = async (): Promise<number | undefined> => (await listing()).match(/counter packets \d+ bytes \d+ drop/g)?.length;
const timeless = (text: string): string => text.replaceAll(/ expires \w+/g, '').replace(/ # progname.*/, '').replace(/\n\tflags [a-z ,]*\n/, '\n').replace(/\{\n\n/, '{\n');

/** The table as apply writes it, with what was counted since so many hours. */
async function written(act: GuardAct, sinceHours: number, elements: Readonly<Record<string, readonly string[]>> = {}): Promise<void> {
  const script = guardScript(act).replace('"imds-guard" }', `"imds-guard" expires ${SINCE_SET.timeoutMs / HOUR - sinceHours}h }`);
  await nft(`flush ruleset\n${script}${Object.entries(elements).map(([set, ofSet]) => `add element inet ${GUARD_TABLE} ${set} { ${ofSet.join(', ')} }\n`).join('')}`);
}
/** What pods and processes leave behind in an hour or a day. */
const COUNTED = {
  interfaces: ['"eni0" counter packets 7 bytes 420 expires 6d', '"veth1" counter packets 1 bytes 60 expires 167h'],
  recent: ['"eni0" expires 6d23h', '"veth1" expires 167h'],
  clients4: ['"eni0" . 10.0.1.2 counter packets 7 bytes 420 expires 23h'],
  clients6: ['"veth1" . 2001:db8::2 counter packets 1 bytes 80 expires 22h'],
  probes: ['"eni0" counter packets 2 bytes 120 expires 21h'],
  puts: ['"eni0" counter packets 3 bytes 400 expires 20h'],
  gets: ['"eni0" counter packets 4 bytes 500 expires 19h'],
};

async function keeperOf(forms?: readonly GuardForm[]): Promise<GuardKeeper> {
  return new GuardKeeper(await NetlinkRequests.open(12), forms);
}
const reader = await NetlinkRequests.open(12);
t.teardown(() => reader.close());
type Counted = Extract<ClientCounts, { readonly state: 'counted' }>;
function counts(): Counted {
  const read = readCounts(reader);
  if (read.state !== 'counted') throw new Error(read.because);
  return read;
}
/** Ages to the second. */
const inSeconds = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (name, one: unknown) => (name.endsWith('MsAgo') ? Math.round((one as number) / 10_000) * 10 : one)));
const byName = (a: { interface: string }, b: { interface: string }): number => (a.interface < b.interface ? -1 : 1);
const hours = (count: number): number => count * 3600;
const SEEN = {
  interfaces: [{ interface: 'eni0', packets: 7, firstMsAgo: hours(24), lastMsAgo: hours(1) }, { interface: 'veth1', packets: 1, firstMsAgo: hours(1), lastMsAgo: hours(1) }],
  sources: [{ family: 'ipv4', interface: 'eni0', source: '10.0.1.2', packets: 7, lastMsAgo: hours(1) }, { family: 'ipv6', interface: 'veth1', source: '2001:db8::2', packets: 1, lastMsAgo: hours(2) }],
  probes: [{ interface: 'eni0', packets: 2, lastMsAgo: hours(3) }],
  puts: [{ interface: 'eni0', packets: 3, lastMsAgo: hours(4) }],
  gets: [{ interface: 'eni0', packets: 4, lastMsAgo: hours(5) }],
};
function seen(): unknown {
  const { interfaces, sources, probes, puts, gets } = counts();
  return inSeconds({ interfaces: [...interfaces].sort(byName), sources, probes, puts, gets });
}

const newest = await (async () => {
  const keeper = await keeperOf();
  const { state } = keeper.keep(DEFAULT_SETTINGS);
  keeper.close();
  await nft('flush ruleset\n');
  return state;
})();

t.test('what apply counted is there when the daemon has taken over, and after each of its deaths, and in the other mode', async (t) => {
  for (const forms of [undefined, ['owned', 'plain'], ['plain']] as const) {
    await written('observe', 30, COUNTED);
    const before = timeless(await listing());
    for (const settings of [observing, observing, DEFAULT_SETTINGS, { ...DEFAULT_SETTINGS, action: 'reject' as const }, observing]) {
      const keeper = await keeperOf(forms);
      t.same(keeper.keep(settings), { state: forms?.[0] ?? newest });
      t.same(seen(), SEEN, 'counts, first and last seen');
      t.same(inSeconds({ sinceMsAgo: counts().sinceMsAgo }), { sinceMsAgo: hours(30) }, 'since when');
      t.equal(counts().mode, settings.mode);
      // While it lives, too.
      t.same(keeper.keep({ ...settings, mode: 'observe' }), { state: forms?.[0] ?? newest });
      t.same(seen(), SEEN);
      keeper.close();
    }
    t.equal(timeless(await listing()), before, 'byte for byte');
    await nft(`delete table inet ${GUARD_TABLE}\n`);
  }
});

t.test('a process of the node that asked, and asks again', async (t) => {
  execFileSync('ip', ['route', 'add', 'local', '169.254.169.254', 'dev', 'lo']);
  const ask = (): Promise<void> => new Promise((done) => connect(80, '169.254.169.254').on('error', () => {}).on('close', () => done()));
  await written('observe', 30);
  await ask();
  const [before] = counts().processes;
  t.match(before, { packets: 1 });
  const keeper = await keeperOf();
  keeper.keep(DEFAULT_SETTINGS);
  t.match(counts().processes, [{ cgroup: before!.cgroup, packets: 1 }]);
  await ask();
  t.match(counts().processes, [{ cgroup: before!.cgroup, packets: 2 }], 'the same element counts on');
  keeper.close();
});

t.test('counting begins with the table, and goes on', async (t) => {
  await nft('flush ruleset\n');
  const keeper = await keeperOf();
  keeper.keep(observing);
  await new Promise((later) => setTimeout(later, 300));
  const { sinceMsAgo = -1 } = counts();
  t.ok(sinceMsAgo >= 290 && sinceMsAgo < 5000, `${sinceMsAgo} ms`);
  keeper.keep(DEFAULT_SETTINGS);
  t.ok(counts().sinceMsAgo! >= sinceMsAgo - 10);
  keeper.close();
});

const withoutSince = (text: string): string => text.replace(/ {2}set since \{[^]*?\n {2}\}\n/, '');
t.test('a table of an older version: its counts stay, and as it does not tell since when, that is now', async (t) => {
  await nft(`flush ruleset\n${withoutSince(guardScript('observe'))}add element inet ${GUARD_TABLE} interfaces { "eni0" counter packets 7 bytes 420 expires 5d }\n`);
  t.notOk('sinceMsAgo' in counts());
  const keeper = await keeperOf();
  t.same(keeper.keep(observing), { state: newest });
  t.match(inSeconds(counts().interfaces), [{ packets: 7, firstMsAgo: hours(48) }]);
  t.ok(counts().sinceMsAgo! < 5000);
  keeper.close();
});

t.test('a table that has counted less, or had lost a rule, does not tell since when', async (t) => {
  const damages = {
    'a chain without its rules': (script: string) => `${script}flush chain inet ${GUARD_TABLE} count\n`,
    'a rule on top that lets packets by': (script: string) => `${script}insert rule inet ${GUARD_TABLE} begun accept\n`,
    'dormant': (script: string) => `${script}add table inet ${GUARD_TABLE} { flags dormant; }\n`,
  };
  for (const [what, damage] of Object.entries(damages)) {
    const script = guardScript('observe').replace('"imds-guard" }', `"imds-guard" expires ${SINCE_SET.timeoutMs / HOUR - 30}h }`);
    await nft(`flush ruleset\n${damage(script)}add element inet ${GUARD_TABLE} interfaces { "eni0" counter packets 7 bytes 420 expires 5d }\n`);
    t.notOk('sinceMsAgo' in counts(), what);
    const keeper = await keeperOf();
    keeper.keep(observing);
    t.ok(counts().sinceMsAgo! < 5000, what);
    t.match(counts().interfaces, [{ packets: 7 }], 'the counts stay');
    keeper.close();
  }
  // The simple form has not counted requests.
  await nft(`flush ruleset\n${guardScript('observe', false, 'simple').replace('"imds-guard" }', `"imds-guard" expires ${SINCE_SET.timeoutMs / HOUR - 30}h }`)}`);
  t.same(inSeconds({ sinceMsAgo: counts().sinceMsAgo }), { sinceMsAgo: hours(30) });
  const keeper = await keeperOf();
  keeper.keep(observing);
  t.ok(counts().sinceMsAgo! < 5000);
  keeper.close();
});

t.test('a stranger of our name: what looks like no element of ours stays behind, and its drops are ours', async (t) => {
  const set = (name: string, type: string, more: string): string => ` set ${name} { type ${type}; ${more} }\n`;
  await nft(`flush ruleset\ntable inet ${GUARD_TABLE} {\n${[
    set('interfaces', 'ipv4_addr', 'size 4096; flags dynamic,timeout; timeout 7d; elements = { 192.0.2.1 counter packets 9 bytes 9 };'),
    set('recent', 'ifname', 'size 4097; flags timeout; timeout 7d; elements = { "eni0" };'),
    set('clients4', 'ifname . ipv4_addr', 'flags dynamic,timeout; timeout 7d; elements = { "eni0" . 192.0.2.1 counter packets 9 bytes 9 };'),
    set('probes', 'ifname', 'size 9; elements = { "eni0" };'),
    set('puts', 'ifname', 'size 9; flags dynamic,timeout; timeout 30d; elements = { "eni0" counter packets 9 bytes 9 expires 28d, "eni1" counter packets 8 bytes 9 expires 718h };'),
    set('gets', 'ifname', 'size 9; flags dynamic,timeout; timeout 1h; elements = { "eni0" counter packets 5 bytes 9 expires 30m };'),
    set('since', 'ifname', `size 1; flags timeout; timeout 3650d; elements = { "${GUARD_TABLE}" expires 1h };`),
    set('strange', 'ipv4_addr', 'elements = { 192.0.2.1 };'),
  ].join('')} chain forward { type filter hook forward priority 5; accept; }\n}\n`);
  const keeper = await keeperOf();
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: newest });
  t.equal(await drops(), 2);
  const { interfaces, sources, probes, puts, gets, sinceMsAgo = DAY } = counts();
  t.same({ interfaces, sources, probes }, { interfaces: [], sources: [], probes: [] });
  t.same(inSeconds({ puts, gets }), { puts: [{ interface: 'eni1', packets: 8, lastMsAgo: hours(2) }], gets: [{ interface: 'eni0', packets: 5, lastMsAgo: hours(0.5) }] }, 'ages are carried, however long its own sets remember');
  t.ok(sinceMsAgo < 5000);
  t.notMatch(await listing(), 'strange');
  keeper.close();
});

t.test('a repair, while the node lies open, does not wait for what a pod can fill', async (t) => {
  await written('drop', 30, COUNTED);
  const keeper = await keeperOf(['plain']);
  keeper.keep(DEFAULT_SETTINGS);
  keeper.keep(DEFAULT_SETTINGS);
  t.same(seen(), SEEN, 'as long as it drops there is time');
  await nft(`flush chain inet ${GUARD_TABLE} forward\n`);
  t.notOk(keeper.stands());
  keeper.keep(DEFAULT_SETTINGS);
  t.same(seen(), { ...SEEN, sources: [] });
  t.same(inSeconds({ sinceMsAgo: counts().sinceMsAgo }), { sinceMsAgo: hours(30) });
  t.equal(await drops(), 2);
  keeper.close();
});

/** A kernel that refuses, or cannot be sent, what has certain bytes in it; it keeps count of the batches that it was sent. */
function refusing(requests: NetlinkRequests, bytes: string, errno: number): { readonly batches: boolean[]; readonly requests: ConstructorParameters<typeof GuardKeeper>[0] } {
  const batches: boolean[] = [];
  const ask: NetlinkRequests['ask'] = (...messages) => {
    const at = messages.findIndex((message) => message.includes(bytes));
    batches.push(at >= 0);
    if (at < 0) return requests.ask(...messages);
    if (errno === ERRNO.EMSGSIZE) throw new KernelError('netlink send', errno);
    return { messages: [], results: messages.slice(1, -1).map((_, place) => (place === at - 1 ? errno : 0)) };
  };
  return { batches, requests: { ask, list: (...args) => requests.list(...args), close: () => requests.close(), fd: requests.fd, port: requests.port } };
}

t.test('where the kernel refuses what was counted the table is there all the same, at once', async (t) => {
  for (const errno of [ERRNO.EINVAL, ERRNO.EOPNOTSUPP, ERRNO.ENOMEM, ERRNO.EMSGSIZE]) {
    for (const forms of [undefined, ['plain']] as const) {
      await written('observe', 30, COUNTED);
      const { batches, requests } = refusing(await NetlinkRequests.open(12), 'veth1', errno);
      const keeper = new GuardKeeper(requests, forms);
      t.same(keeper.keep(DEFAULT_SETTINGS), { state: forms?.[0] ?? newest });
      t.same(batches, [true, false]);
      t.equal(await drops(), 2);
      t.match(counts(), { seesPayload: true, interfaces: [], mode: 'enforce' }, 'counting begins anew');
      t.ok(counts().sinceMsAgo! < 5000);
      keeper.close();
      await nft(`delete table inet ${GUARD_TABLE}\n`);
    }
  }
});

t.test('a kernel that cannot look into packets carries over where it is known to take what elements bring', async (t) => {
  for (const [forms, stays] of [[undefined, true], [['plain'], false]] as const) {
    await written('observe', 30, COUNTED);
    const keeper = new GuardKeeper(refusing(await NetlinkRequests.open(12), 'PUT ', ERRNO.EOPNOTSUPP).requests, forms);
    t.same(keeper.keep(DEFAULT_SETTINGS), { state: forms?.[0] ?? newest });
    t.equal(await drops(), 2);
    t.match(counts(), { seesPayload: false, interfaces: { length: stays ? 2 : 0 } });
    keeper.close();
    await nft(`delete table inet ${GUARD_TABLE}\n`);
  }
});

/** The n-th key of a set, in the words of nft. */
const keyText = (n: number, key: CountSet['key']): string => key.map((part) => ({ interfaceName: `"eni${n}"`, ipv4Address: `10.1.${n >> 8}.${n & 255}`, ipv6Address: `2001:db8::${n.toString(16)}`, cgroup: '' })[part]).join(' . ');

t.test('full sets: the latest of each go over, in one batch', async (t) => {
  const full = Object.fromEntries(
    COUNT_SETS.filter(({ name }) => name !== 'processes').map(({ name, key, hasCounter = true }) => [name, Array.from({ length: 4096 }, (_, n) => `${keyText(n, key)}${hasCounter ? ` counter packets ${n} bytes 60` : ''} expires ${80_000 - n}s`)]),
  );
  await written('drop', 30, full);
  const started = performance.now();
  const keeper = await keeperOf();
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: newest });
  t.comment(`${(performance.now() - started).toFixed(1)} ms`);
  t.equal(await drops(), 2);
  const { sources, puts, interfaces, full: stillFull } = counts();
  t.same([sources.length, puts.length, interfaces.length, stillFull], [1024, 512, 512, []]);
  t.ok(puts.every(({ packets }) => packets < 512), 'the latest');
  keeper.close();
});
