import t from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { NetlinkRequests } from '../../agent/node-iptables/src/kernel/index.ts';
import { GUARD_TABLE, OWNED_GUARD_TABLE, guardScript } from '../../agent/core/guard-table.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import type { GuardForm } from '../../agent/core/watch/guard-batch.ts';
import { GuardKeeper } from '../../agent/effects/guard-keeper.ts';

/** nft in the test's own namespace, which has no rules but ours. */
async function nft(args: readonly string[], input = ''): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const child = spawn('nft', args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (part: Buffer) => out.push(part));
  child.stderr.on('data', (part: Buffer) => err.push(part));
  // What complains of its command line does not read what it is fed.
  child.stdin.on('error', () => {}).end(input);
  const [code] = (await once(child, 'close')) as [number];
  return { code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}
const listing = async (table: string): Promise<string> => (await nft(['list', 'table', 'inet', table])).out;
/** Without who owns it, and the time that an element has left. */
const bare = (text: string): string => text.replaceAll(/ expires \w+/g, '').replace(/ # progname.*/, '').replace(/\n\tflags [a-z ,]*\n/, '\n').replace(/\{\n\n/, '{\n');
const flush = (): Promise<unknown> => nft(['flush', 'ruleset']);

const keeperOf = async (forms?: readonly GuardForm[]): Promise<GuardKeeper> => new GuardKeeper(await NetlinkRequests.open(12), forms);

const newest = await (async () => {
  const keeper = await keeperOf();
  const { state } = keeper.keep(DEFAULT_SETTINGS);
  keeper.close();
  return state;
})();
const older = newest === 'owned-persistent' ? false : 'this kernel does not know persist (6.9)';

for (const act of ['drop', 'reject', 'observe'] as const) {
  const settings = act === 'observe' ? { ...DEFAULT_SETTINGS, mode: act } : { ...DEFAULT_SETTINGS, action: act };
  await t.test(`${act}: what the daemon writes over netlink is what apply writes with nft`, async (t) => {
    await flush();
    t.match(await nft(['-f', '-'], guardScript(act)), { code: 0, err: '' });
    const byNft = await listing(GUARD_TABLE);
    for (const guard of ['plain', 'auto'] as const) {
      const keeper = await keeperOf();
      const { state } = keeper.keep({ ...settings, guard });
      t.equal(state, guard === 'plain' ? 'plain' : newest);
      t.equal(bare(await listing(GUARD_TABLE)), bare(byNft));
      t.same(keeper.read().droppedPackets, act === 'observe' ? undefined : { ipv4: 0, ipv6: 0 });
      t.ok(keeper.stands());
      keeper.close();
      await nft(['delete', 'table', 'inet', GUARD_TABLE]);
    }
  });
}

t.test('owned and persistent: nobody else can change it; it outlives its owner; a new owner takes it over', { skip: older }, async (t) => {
  await flush();
  const keeper = await keeperOf();
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: 'owned-persistent' });
  for (const line of [`delete table inet ${GUARD_TABLE}`, `flush chain inet ${GUARD_TABLE} forward`, `delete chain inet ${GUARD_TABLE} forward`, `insert rule inet ${GUARD_TABLE} forward accept`, `add table inet ${GUARD_TABLE} { flags dormant; }`]) {
    t.not((await nft([line])).code, 0, line);
  }
  t.equal((await nft(['flush', 'ruleset'])).code, 0, 'a flush of everything says that it went well');
  t.match(await listing(GUARD_TABLE), /ip daddr 169\.254\.169\.254 counter .*drop/, 'and leaves it');
  t.ok(keeper.stands());

  const second = await keeperOf();
  t.match(second.keep(DEFAULT_SETTINGS), { state: 'absent', because: /another process owns/ }, 'another daemon does not get it');
  t.notOk(second.stands());

  keeper.close();
  t.match(await listing(GUARD_TABLE), /ip daddr 169\.254\.169\.254 counter .*drop/, 'it stays when its owner dies');
  t.same(second.keep(DEFAULT_SETTINGS), { state: 'owned-persistent' });
  t.equal((await listing(GUARD_TABLE)).match(/counter packets \d+ bytes \d+ drop/g)?.length, 2, 'no rule is there twice');
  t.not((await nft(['delete', 'table', 'inet', GUARD_TABLE])).code, 0, 'it is owned again');
  second.close();
});

t.test('a kernel that knows owner and not persist: a plain one stands beside it, so that the death of the daemon opens nothing', async (t) => {
  await flush();
  const keeper = await keeperOf(['owned', 'plain']);
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: 'owned' });
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: 'owned' }, 'again, with both there');
  await nft(['flush', 'ruleset']);
  t.match(await listing(OWNED_GUARD_TABLE), 'drop', 'the owned one stays when everything is flushed');
  t.equal(await listing(GUARD_TABLE), '', 'the plain one goes');
  t.notOk(keeper.stands(), 'which is seen');
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: 'owned' });
  t.ok(keeper.stands());
  keeper.close();
  t.equal(await listing(OWNED_GUARD_TABLE), '', 'the owned one goes with its owner');
  t.match(await listing(GUARD_TABLE), 'drop', 'the plain one does not');
});

t.test('a kernel that knows neither: a plain one, and its loss is seen', async (t) => {
  await flush();
  const keeper = await keeperOf(['plain']);
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: 'plain' });
  t.ok(keeper.stands());
  await nft(['flush', 'ruleset']);
  t.notOk(keeper.stands());
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: 'plain' });
  t.ok(keeper.stands());
  keeper.close();
});

t.test('the table that apply left is taken over, whatever was in it', async (t) => {
  await flush();
  await nft(['-f', '-'], `table inet ${GUARD_TABLE} { chain forward { type filter hook forward priority 5; accept; }; set strange { type ipv4_addr; } }\n`);
  const keeper = await keeperOf();
  t.same(keeper.keep(DEFAULT_SETTINGS), { state: newest });
  const text = await listing(GUARD_TABLE);
  t.match(text, /hook forward priority -200/);
  t.notMatch(text, 'strange');
  keeper.close();
});

t.test('switched off: nothing is written, and that is the reason', async (t) => {
  await flush();
  const keeper = await keeperOf();
  t.match(keeper.keep({ ...DEFAULT_SETTINGS, guard: 'none' }), { state: 'absent', because: /switched off/ });
  t.equal((await nft(['list', 'ruleset'])).out, '');
  await nft(['flush', 'ruleset']);
  keeper.close();
});

/** A kernel that does not know what looks into packets: any batch that does is refused where it says so, and as a whole. */
function olderKernel(requests: NetlinkRequests, refuses: string): { readonly batches: number[]; readonly requests: ConstructorParameters<typeof GuardKeeper>[0] } {
  const batches: number[] = [];
  const ask: NetlinkRequests['ask'] = (...messages) => {
    const at = messages.findIndex((message) => message.includes(refuses));
    batches.push(at);
    // The first and the last message of a batch have no result.
    return at < 0 ? requests.ask(...messages) : { messages: [], results: messages.slice(1, -1).map((_, place) => (place === at - 1 ? 95 : 0)) };
  };
  return { batches, requests: { ask, list: (...args) => requests.list(...args), close: () => requests.close(), fd: requests.fd, port: requests.port } };
}

for (const [what, refuses] of [['@ih', 'PUT '], ['socket cgroupv2', 'socket\0']] as const) {
  await t.test(`a kernel that does not know ${what}: it counts what it can, drops all the same, and is not asked again`, async (t) => {
    for (const forms of [undefined, ['owned', 'plain'], ['plain']] as const) {
      await flush();
      const { batches, requests } = olderKernel(await NetlinkRequests.open(12), refuses);
      const keeper = new GuardKeeper(requests, forms);
      const state = forms?.[0] ?? newest;
      t.same(keeper.keep(DEFAULT_SETTINGS), { state });
      t.ok(keeper.stands());
      t.equal(batches.filter((at) => at >= 0).length, 1);
      const text = await listing(state === 'owned' ? OWNED_GUARD_TABLE : GUARD_TABLE);
      t.notMatch(text, /@ih|cgroup|puts/);
      t.equal(text.match(/counter packets \d+ bytes \d+ drop/g)?.length, 2);
      t.match(text, /add @interfaces/);
      t.same(keeper.keep({ ...DEFAULT_SETTINGS, mode: 'observe' }), { state });
      t.equal(batches.filter((at) => at >= 0).length, 1, 'what was refused is not tried again');
      if (state !== 'owned') t.equal(bare(await listing(GUARD_TABLE)), await simple('observe'), 'and it is what nft would write');
      keeper.close();
      await nft(['delete', 'table', 'inet', GUARD_TABLE]);
    }
  });
}
async function simple(act: 'observe' | 'drop'): Promise<string> {
  const before = `${GUARD_TABLE}-by-nft`;
  await nft(['-f', '-'], guardScript(act, false, 'simple').replace(`inet ${GUARD_TABLE} `, `inet ${before} `));
  const text = (await listing(before)).replace(before, GUARD_TABLE);
  await nft(['delete', 'table', 'inet', before]);
  return bare(text);
}

t.test('what is to be as it is, and nobody else can have changed, is not written anew: its counts stay', { skip: older }, async (t) => {
  await flush();
  const keeper = await keeperOf();
  keeper.keep(DEFAULT_SETTINGS);
  /** The kernel gives every table another. */
  const handle = async (): Promise<string | undefined> => /"handle": (\d+)/.exec((await nft(['-j', 'list', 'tables'])).out)?.[1];
  const before = await handle();
  t.match(before, /\d/);
  t.same(keeper.keep({ ...DEFAULT_SETTINGS }), { state: 'owned-persistent' });
  t.equal(await handle(), before);
  keeper.keep({ ...DEFAULT_SETTINGS, mode: 'observe' });
  t.not(await handle(), before, 'another mode is another table');
  t.notMatch(await listing(GUARD_TABLE), 'drop');
  keeper.close();
});

t.test('a table that only counts: its loss is seen, and it drops nothing that could be told', async (t) => {
  await flush();
  const keeper = await keeperOf(['plain']);
  const observing = { ...DEFAULT_SETTINGS, mode: 'observe' } as const;
  t.same(keeper.keep(observing), { state: 'plain' });
  t.ok(keeper.stands());
  t.same(keeper.read(), { state: 'plain' });
  await nft([`flush chain inet ${GUARD_TABLE} count`]);
  t.notOk(keeper.stands());
  t.same(keeper.keep(observing), { state: 'plain' });
  t.ok(keeper.stands());
  await nft(['flush', 'ruleset']);
  t.notOk(keeper.stands());
  keeper.close();
});
