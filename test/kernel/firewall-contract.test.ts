import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { guardScript } from '../../agent/core/guard-table.ts';
import { IptablesError } from '../../agent/node-iptables/src/errors.ts';
import { ProcessFirewall, legacyTables, legacyTablesFile } from '../../agent/node-iptables/src/exec/index.ts';
import { FakeFirewall } from '../../agent/node-iptables/src/fake/index.ts';
import type { Firewall } from '../../agent/node-iptables/src/firewall.ts';
import type { Backend } from '../../agent/node-iptables/src/model.ts';
import { parseNftJson, parseNftText } from '../../agent/node-iptables/src/nft/index.ts';
import { parseSave } from '../../agent/node-iptables/src/save/parse-save.ts';
import { renderRuleset } from '../../agent/node-iptables/src/save/render.ts';
import type { Family } from '../../agent/node-iptables/src/sets/address.ts';

// About a thousand programs are started, one after the other.
t.setTimeout(180_000);

/** A firewall with nothing in it, and what a test may do to the world around it. */
interface World {
  readonly firewall: Firewall;
  /** As another program would hold it; resolves when it is held. */
  holdLock(): Promise<() => void>;
  end(): Promise<void>;
}

/** One suite for the fake, iptables-nft and iptables-legacy: what they all do, so that a test on the fake means something. */
function contract(t: Test, backend: Backend, makeWorld: () => Promise<World>): void {
  for (const family of ['ipv4', 'ipv6'] as const) {
    void t.test(family, async (t) => {
      const address = (last: number): string => (family === 'ipv4' ? `192.0.2.${last}/32` : `2001:db8::${last.toString(16)}/128`);
      const drop = (last: number): string => `-d ${address(last)} -j DROP`;

      const within = (name: string, body: (t: Test, box: Box, world: World) => Promise<void>): void => {
        void t.test(name, async (t) => {
          const world = await makeWorld();
          t.teardown(() => world.end());
          await body(t, boxOf(world.firewall, family, backend), world);
        });
      };

      within('nothing was written: there is no table', async (t, box) => {
        t.equal(await box.save(), '');
      });

      within('what is written can be read, canonical, with the kernel chains around it', async (t, box) => {
        await box.restore('*filter', `-A FORWARD -i eni+ -j DROP -d ${address(1)}`, 'COMMIT');
        t.equal(await box.save(), lines('*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', `-A FORWARD -d ${address(1)} -i eni+ -j DROP`, 'COMMIT'));
      });

      within('what save prints equals renderRuleset(parseSave(…)) byte for byte', async (t, box) => {
        await box.restore(
          '*filter',
          ':ZULU - [0:0]',
          ':ALPHA - [0:0]',
          ':alpha - [0:0]',
          `-A FORWARD -s ${address(1)} -i eni+ -o eth0 -p tcp -m tcp --dport 80 -m comment --comment "two words" -j ALPHA`,
          '-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -g ZULU',
          '-A ALPHA -p tcp -j REJECT',
          '-A ALPHA -j MARK --set-mark 0x80/0x80',
          '-A ZULU -m mark --mark 0x0080/0x0080 -j RETURN',
          '-P FORWARD DROP',
          'COMMIT',
        );
        await box.restore('*nat', ':OURS - [0:0]', ':FORWARD - [0:0]', '-A POSTROUTING -j MASQUERADE', 'COMMIT');
        await box.restore('*mangle', `-A POSTROUTING ${drop(1)}`, 'COMMIT');
        await box.restore('*raw', '-A PREROUTING -j CT --notrack', 'COMMIT');
        const saved = await box.save();
        t.equal(renderRuleset(parseSave(saved, { family, backend })), saved);
        t.match(saved, ':FORWARD DROP [0:0]\n');
        const counted = await box.save('filter', true);
        t.equal(renderRuleset(parseSave(counted, { family, backend }), { counters: true }), counted);
      });

      within('a bad line leaves nothing of its table', async (t, box) => {
        await box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT');
        const before = await box.save();
        for (const bad of REFUSED(drop(7))) {
          await refused(t, box.restore('*filter', ':FRESH - [0:0]', `-I FORWARD ${drop(2)}`, bad, 'COMMIT'), bad);
          t.equal(await box.save('filter'), before, bad);
        }
      });

      within('a payload without its COMMIT is refused', async (t, box) => {
        await refused(t, box.restore('*filter', `-A FORWARD ${drop(1)}`), 'no COMMIT');
        t.equal(await box.position(drop(1)), 0);
      });

      within('two tables are not atomic together', async (t, box) => {
        await refused(t, box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT', '*mangle', '-A NOWHERE -j ACCEPT', 'COMMIT'), 'second table');
        t.equal(await box.position(drop(1)), 1, 'the first one stays');
      });

      within('rewrite our chain in one write with a `:OURS - [0:0]` line', async (t, box) => {
        await box.restore('*filter', ':OURS - [0:0]', `-A OURS ${drop(1)}`, `-A OURS ${drop(2)}`, '-A FORWARD -j OURS', 'COMMIT');
        await box.restore('*filter', ':OURS - [0:0]', `-A OURS ${drop(3)}`, 'COMMIT');
        const { tables } = parseSave(await box.save(), { family, backend });
        t.equal(tables.get('filter')!.chains.get('OURS')!.rules.length, 1);
        t.equal(tables.get('filter')!.chains.get('FORWARD')!.rules.length, 1, 'and leaves the jump to it');
      });

      within('a kernel chain keeps its rules and its policy under `:FORWARD - [0:0]`', async (t, box) => {
        await box.restore('*filter', ':FORWARD DROP [0:0]', `-A FORWARD ${drop(1)}`, 'COMMIT');
        const before = await box.save();
        await box.restore('*filter', ':FORWARD - [0:0]', 'COMMIT');
        t.equal(await box.save(), before);
      });

      within('delete by value, in other words than it was written; a second identical delete is refused', async (t, box) => {
        await box.restore('*filter', `-A FORWARD ${drop(1)}`, `-A FORWARD -d ${address(2)} -i eni+ -j DROP`, 'COMMIT');
        await box.restore('*filter', `-D FORWARD -j DROP --in-interface eni+ --destination ${address(2)}`, 'COMMIT');
        t.equal(await box.position(drop(1)), 1);
        await refused(t, box.restore('*filter', `-D FORWARD -d ${address(2)} -i eni+ -j DROP`, 'COMMIT'), 'second delete');
      });

      within('of two copies, delete takes the first', async (t, box) => {
        await box.restore('*filter', `-A FORWARD ${drop(1)}`, `-A FORWARD ${drop(2)}`, `-A FORWARD ${drop(1)}`, 'COMMIT');
        await box.restore('*filter', `-D FORWARD ${drop(1)}`, 'COMMIT');
        t.strictSame([await box.position(drop(2)), await box.position(drop(1))], [1, 2]);
      });

      within('take a position again in one write: -D, then -I', async (t, box) => {
        await box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT');
        await box.restore('*filter', `-I FORWARD ${drop(2)}`, `-I FORWARD 2 ${drop(3)}`, 'COMMIT');
        t.equal(await box.position(drop(1)), 3);
        await box.restore('*filter', `-D FORWARD ${drop(1)}`, `-I FORWARD 1 ${drop(1)}`, 'COMMIT');
        t.strictSame([await box.position(drop(1)), await box.position(drop(2)), await box.position(drop(3))], [1, 2, 3]);
      });

      within('by number: -I, -R, -D; counters that stand before a rule are ignored', async (t, box) => {
        await box.restore('*filter', `[5:50] -A FORWARD ${drop(1)}`, `-A FORWARD ${drop(2)}`, `-A FORWARD -c 1 2 ${drop(3)}`, 'COMMIT');
        t.equal((await box.rules(true)).split('\n')[0], `[0:0] -A FORWARD ${drop(1)}`);
        // Not asked: what becomes of -c. ip6tables-nft 1.8.9 ignores it, the other three do not.
        await box.restore('*filter', '-D FORWARD 1', `-R FORWARD 1 ${drop(4)}`, 'COMMIT');
        t.equal(await box.rules(), lines(`-A FORWARD ${drop(4)}`, `-A FORWARD ${drop(3)}`));
      });

      within('-F, -N, -X: a chain can go once it is empty and nobody jumps to it', async (t, box) => {
        await box.restore('*filter', '-N A', '-N B', '-A B -j A', `-A A ${drop(1)}`, 'COMMIT');
        await refused(t, box.restore('*filter', '-F B', '-X A', 'COMMIT'), 'has rules');
        await refused(t, box.restore('*filter', '-F A', '-X A', 'COMMIT'), 'is jumped to');
        await box.restore('*filter', '-F', '-X', 'COMMIT');
        t.strictSame([...parseSave(await box.save(), { family, backend }).tables.get('filter')!.chains.keys()], ['INPUT', 'FORWARD', 'OUTPUT']);
      });

      within('a loop is refused where a packet could enter it, and let be where none can', async (t, box) => {
        await box.restore('*filter', ':A - [0:0]', ':B - [0:0]', '-A A -j B', '-A B -j A', 'COMMIT');
        await refused(t, box.restore('*filter', '-A FORWARD -j A', 'COMMIT'), 'loop');
      });

      within('each target in its own table', async (t, box) => {
        for (const [table, rule] of [['mangle', '-A FORWARD -j REJECT'], ['raw', '-A PREROUTING -j REJECT'], ['nat', '-A OUTPUT -j REJECT'], ['nat', '-A OUTPUT -j DROP'], ['filter', '-A FORWARD -j CT --notrack'], ['filter', '-A FORWARD -p udp -j MASQUERADE'], ['filter', '-A FORWARD -p udp -j TPROXY --on-port 1']] as const) {
          await refused(t, box.restore(`*${table}`, rule, 'COMMIT'), `${table} ${rule}`);
        }
      });

      within('a rule in the wrong table is refused at COMMIT: flushed before it, nobody asks', async (t, box) => {
        await box.restore('*mangle', '-N A', '-A A -j REJECT', '-F A', 'COMMIT');
        t.match(await box.save('mangle'), ':A - [0:0]\nCOMMIT\n');
        await refused(t, box.restore('*nat', '-P OUTPUT DROP', 'COMMIT'), 'a policy for nat');
      });

      within('an interface stands only where it is known', async (t, box) => {
        for (const [table, rule] of [['nat', '-A POSTROUTING -i eth0 -j ACCEPT'], ['nat', '-A PREROUTING -o eth0 -j ACCEPT'], ['filter', '-A OUTPUT ! -i eth0 -j ACCEPT'], ['filter', '-A INPUT -o eth0 -j ACCEPT']] as const) {
          await refused(t, box.restore(`*${table}`, rule, 'COMMIT'), rule);
        }
        await box.restore('*mangle', '-N BOTH', '-A BOTH -i eth0 -o eth1 -j ACCEPT', '-A POSTROUTING -j BOTH', 'COMMIT');
        t.match(await box.save('mangle'), '-A BOTH -i eth0 -o eth1 -j ACCEPT\n', 'a chain of our own may ask both');
      });

      within('15 bytes of interface and 28 of chain are the longest', async (t, box) => {
        await box.restore('*filter', `-N ${'c'.repeat(28)}`, `-A FORWARD -i ${'i'.repeat(14)}+ -j ${'c'.repeat(28)}`, 'COMMIT');
        await refused(t, box.restore('*filter', `-N ${'c'.repeat(29)}`, 'COMMIT'), 'chain');
        await refused(t, box.restore('*filter', `:${'c'.repeat(29)} - [0:0]`, 'COMMIT'), 'chain');
        await refused(t, box.restore('*filter', `-A FORWARD -i ${'i'.repeat(15)}+ -j ACCEPT`, 'COMMIT'), 'interface');
      });

      within('comments survive a round trip, however they are quoted', async (t, box) => {
        const comments = ['bare', '"a \\"quoted\\" b"', '"back\\\\slash"', '"it\\\'s"', '"-j"', '""', '"two  blanks"', '"# no note"', '"COMMIT"', '"umlaut ü"'];
        await box.restore('*filter', ...comments.map((comment) => `-A FORWARD -m comment --comment ${comment} -j ACCEPT`), 'COMMIT');
        const saved = await box.save();
        const parsed = parseSave(saved, { family, backend });
        t.equal(renderRuleset(parsed), saved);
        t.strictSame(parsed.tables.get('filter')!.chains.get('FORWARD')!.rules.map(({ words }) => words[3]), ['bare', 'a "quoted" b', 'back\\slash', "it's", '-j', '', 'two  blanks', '# no note', 'COMMIT', 'umlaut ü']);
        await box.restore(...saved.replaceAll(/^:.*\n/gm, '').replaceAll('-A FORWARD', '-D FORWARD').trimEnd().split('\n'));
        t.equal(await box.rules(), '');
      });

      within('an unknown table', async (t, box) => {
        t.equal(await kindOf(box.restore('*nosuch', 'COMMIT')), 'unsupported');
        t.equal(await kindOf(box.save('nosuch')), 'unsupported');
        t.equal(await box.save(), '');
      });

      within('saving a table that nobody made makes none', async (t, box) => {
        const untouched = lines('*mangle', ':PREROUTING ACCEPT [0:0]', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', ':POSTROUTING ACCEPT [0:0]', 'COMMIT');
        t.equal(await box.save('mangle'), backend === 'nft' ? untouched : '');
        t.equal(await box.save(), '');
      });

      within('the version names the backend', async (t, { firewall }) => {
        t.match(await firewall.version(family, backend), { major: Number, minor: Number, backend });
        t.match(await firewall.version(family, 'default'), { text: /^ip6?tables v/ });
      });

      if (backend === 'legacy') lockContract(within, drop);
      else nftContract(within, family, drop);
    });
  }
}

type Within = (name: string, body: (t: Test, box: Box, world: World) => Promise<void>) => void;

function lockContract(within: Within, drop: (last: number) => string): void {
  within('a lock that is held for a short while is waited for', async (t, box, world) => {
    const release = await world.holdLock();
    setTimeout(release, 300);
    await box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT');
    t.equal(await box.position(drop(1)), 1);
  });

  within('a lock that is never let go: busy, and nothing was changed', async (t, box, world) => {
    const release = await world.holdLock();
    t.equal(await kindOf(box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT')), 'busy');
    release();
    t.equal(await box.position(drop(1)), 0);
  });
}

function nftContract(within: Within, family: Family, drop: (last: number) => string): void {
  const ip = family === 'ipv4' ? 'ip' : 'ip6';

  within('a native rule in a chain of iptables makes the table incompatible, not empty, and others stay readable', async (t, box) => {
    await box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT', '*mangle', `-A FORWARD ${drop(1)}`, 'COMMIT');
    await box.firewall.nftRun(`add rule ${ip} filter FORWARD numgen random mod 3 0 drop\n`);
    const { tables } = parseSave(await box.firewall.save(family, 'nft'), { family, backend: 'nft' });
    t.equal(tables.get('filter')!.state, 'incompatible');
    t.equal(tables.get('mangle')!.state, 'read');
    // It can still be written to: iptables-nft reads only what it must.
    await box.restore('*filter', `-D FORWARD ${drop(1)}`, 'COMMIT');
  });

  within('our own table: its script once more in its place, its listings, then deleted', async (t, { firewall }) => {
    const table = ['list', 'table', 'inet', 'imds-guard'];
    await firewall.nftRun(guardScript('reject'));
    await firewall.nftRun(guardScript('drop', true));
    await refused(t, firewall.nftRun('create table inet imds-guard\n'), 'a second one of that name');
    t.strictSame(await listed(firewall, ['list', 'chains']), GUARD_CHAINS);
    t.strictSame(await listed(firewall, table), [
      { table: { family: 'inet', name: 'imds-guard' } },
      ...['interfaces', 'recent'].map((name) => guardSet(name, 'ifname', 7)),
      guardSet('clients4', ['ifname', 'ipv4_addr'], 1),
      guardSet('clients6', ['ifname', 'ipv6_addr'], 1),
      ...['probes', 'puts', 'gets'].map((name) => guardSet(name, 'ifname', 1)),
      guardSet('processes', 'cgroupsv2', 1),
      SINCE,
      ...GUARD_CHAINS,
      guardRule('count', match('ip', '169.254.169.254'), TO_PORT_80, goto('asked')),
      guardRule('count', match('ip6', 'fd00:ec2::254'), TO_PORT_80, goto('asked')),
      guardRule('asked', FROM_PROBE, goto('probed')),
      guardRule('asked', flag('ack'), goto('carried')),
      guardRule('asked', flag('syn'), goto('begun')),
      guardRule('probed', flag('ack'), { return: null }),
      guardRule('probed', flag('syn'), counted('update', 'probes')),
      guardRule('begun', counted('add', 'interfaces')),
      guardRule('begun', { set: { op: 'update', elem: IIFNAME, set: '@recent' } }),
      guardRule('begun', counted('update', 'clients4', source('ip'))),
      guardRule('begun', counted('update', 'clients6', source('ip6'))),
      guardRule('carried', carries('PUT '), counted('update', 'puts')),
      guardRule('carried', carries('GET '), counted('update', 'gets')),
      guardRule('count-node', match('ip', '169.254.169.254'), TO_PORT_80, goto('asked-node')),
      guardRule('count-node', match('ip6', 'fd00:ec2::254'), TO_PORT_80, goto('asked-node')),
      guardRule('asked-node', flag('ack'), { return: null }),
      guardRule('asked-node', FROM_PROBE, { return: null }),
      ...[4, 3, 2, 1, 0].map(() => guardRule('asked-node', counted('update', 'processes', { socket: { key: 'cgroupv2' } }), { return: null })),
      guardRule('forward', match('ip', '169.254.169.254'), { counter: { packets: 0, bytes: 0 } }, { drop: null }),
      guardRule('forward', match('ip6', 'fd00:ec2::254'), { counter: { packets: 0, bytes: 0 } }, { drop: null }),
    ]);
    t.equal(timeless(await firewall.nftText(table)), GUARD_TEXT);
    t.equal(timeless(await firewall.nftText([table.join(' ')])), GUARD_TEXT, 'as one argument');
    const [byText, byJson] = [parseNftText(await firewall.nftText(table)), parseNftJson(await firewall.nftList(table))].map(({ tables }) => tables[0]!);
    t.strictSame([...byText!.chains.values()].flatMap(({ rules }) => rules.map(({ text }) => text.replace(' packets 0 bytes 0', '').replace(/ level \d/, '').replace(/0x\w+/, (hex) => String(Number(hex))))), [...byJson!.chains.values()].flatMap(({ rules }) => rules.map(({ text }) => text)));
    await firewall.nftRun('delete table inet imds-guard\n');
    t.strictSame(await listed(firewall, ['list', 'tables']), []);
    await refused(t, firewall.nftRun('delete table inet imds-guard\n'), 'a second delete');
    t.equal(await kindOf(firewall.nftText(table)), 'refused');
  });

  within('our own table with resets', async (t, { firewall }) => {
    await firewall.nftRun(guardScript('reject'));
    t.strictSame((await listed(firewall, ['list', 'table', 'inet', 'imds-guard'])).filter((item) => JSON.stringify(item).includes('reject')), [
      guardRule('forward', match('ip', '169.254.169.254'), OVER_TCP, { counter: { packets: 0, bytes: 0 } }, { reject: { type: 'tcp reset' } }),
      guardRule('forward', match('ip6', 'fd00:ec2::254'), OVER_TCP, { counter: { packets: 0, bytes: 0 } }, { reject: { type: 'tcp reset' } }),
    ]);
  });

  within('a script lands as a whole or not at all', async (t, { firewall }) => {
    await refused(t, firewall.nftRun('add table inet one\ndelete table inet other\n'), 'the second line');
    t.strictSame(await listed(firewall, ['list', 'tables']), []);
    t.equal(await kindOf(firewall.nftList(['list', 'table', 'inet', 'one'])), 'refused');
  });

  within("the kernel chains of iptables-nft are base chains with the hooks and priorities of model.ts (security: 150)", async (t, box) => {
    for (const table of ['raw', 'mangle', 'nat', 'filter', 'security']) {
      const chains = parseSave(await box.save(table), { family, backend: 'nft' }).tables.get(table)!.chains;
      await box.restore(`*${table}`, ...[...chains.keys()].map((chain) => `-A ${chain} -j RETURN`), 'COMMIT');
    }
    const seen = (await listed(box.firewall, ['list', 'chains'])).map((item) => (item as { chain: { family: string; table: string; name: string; type: string; hook: string; prio: number; policy: string } }).chain);
    t.ok(seen.every((chain) => chain.family === ip && chain.policy === 'accept' && chain.hook === chain.name.toLowerCase()));
    t.strictSame(seen.map(({ table, name, type, prio }) => `${table} ${name} ${type} ${prio}`).sort(), [
      'filter FORWARD filter 0', 'filter INPUT filter 0', 'filter OUTPUT filter 0',
      'mangle FORWARD filter -150', 'mangle INPUT filter -150', 'mangle OUTPUT route -150', 'mangle POSTROUTING filter -150', 'mangle PREROUTING filter -150',
      'nat INPUT nat 100', 'nat OUTPUT nat -100', 'nat POSTROUTING nat 100', 'nat PREROUTING nat -100',
      'raw OUTPUT filter -300', 'raw PREROUTING filter -300',
      'security FORWARD filter 150', 'security INPUT filter 150', 'security OUTPUT filter 150',
    ]);
  });

  within('another program flushes everything', async (t, box) => {
    await box.restore('*filter', `-A FORWARD ${drop(1)}`, 'COMMIT');
    await box.firewall.nftRun('add table inet imds-guard\n');
    await box.firewall.nftRun('flush ruleset\n');
    t.equal(await box.save(), '');
    t.strictSame(await listed(box.firewall, ['list', 'tables']), []);
  });
}

/** Lines that both backends refuse, after which nothing of the payload may be there. */
const REFUSED = (absent: string): readonly string[] => [
  '-A NOWHERE -j ACCEPT',
  '-A FORWARD -j NOWHERE',
  '-A FORWARD -g NOWHERE',
  '-A FORWARD -j FORWARD',
  '-A FORWARD --bogus -j ACCEPT',
  '-A FORWARD -p tcp --dport 99999 -j ACCEPT',
  '-A FORWARD --dport 80 -j ACCEPT',
  '-A FORWARD -i eth0 -i eth1 -j ACCEPT',
  '-A FORWARD -i "" -j ACCEPT',
  '-A FORWARD -t nat -j ACCEPT',
  '-I FORWARD 0 -j ACCEPT',
  '-I FORWARD 9 -j ACCEPT',
  '-R FORWARD 9 -j ACCEPT',
  '-D FORWARD 9',
  `-D FORWARD ${absent}`,
  `-C FORWARD ${absent}`,
  '-D NOWHERE -j ACCEPT',
  '-F NOWHERE',
  '-X NOWHERE',
  '-X FORWARD',
  '-N FORWARD',
  '-N FRESH',
  '-N ACCEPT',
  '-N -bogus',
  '-P NOWHERE DROP',
  '-P FRESH DROP',
  '-P FORWARD REJECT',
  ':FORWARD RETURN [0:0]',
  ':ONLY-A-NAME',
  '*filter',
  'bogus',
  'COMMIT ',
];

const guardChain = (name: string, hook: string, prio: number): object => ({ chain: { family: 'inet', table: 'imds-guard', name, type: 'filter', hook, prio, policy: 'accept' } });
const innerChain = (name: string): object => ({ chain: { family: 'inet', table: 'imds-guard', name } });
const GUARD_CHAINS = [guardChain('count', 'prerouting', -350), ...['asked', 'probed', 'begun', 'carried'].map(innerChain), guardChain('count-node', 'output', -350), innerChain('asked-node'), guardChain('forward', 'forward', -200)];
const guardSet = (name: string, type: string | readonly string[], days: number): object => ({ set: { family: 'inet', name, table: 'imds-guard', type, size: 4096, flags: ['timeout'], timeout: days * 86_400 } });
const SINCE = { set: { family: 'inet', name: 'since', table: 'imds-guard', type: 'ifname', size: 1, flags: ['timeout'], timeout: 3650 * 86_400, elem: [{ elem: { val: 'imds-guard' } }] } };
const match = (protocol: string, right: string): object => ({ match: { op: '==', left: { payload: { protocol, field: 'daddr' } }, right } });
const TO_PORT_80 = { match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right: 80 } };
const OVER_TCP = { match: { op: '==', left: { meta: { key: 'l4proto' } }, right: 'tcp' } };
const IIFNAME = { meta: { key: 'iifname' } };
const source = (protocol: string): object => ({ concat: [IIFNAME, { payload: { protocol, field: 'saddr' } }] });
const counted = (op: string, set: string, elem: object = IIFNAME): object => ({ set: { op, elem, set: `@${set}`, stmt: [{ counter: null }] } });
const goto = (target: string): object => ({ goto: { target } });
const flag = (right: string): object => ({ match: { op: 'in', left: { payload: { protocol: 'tcp', field: 'flags' } }, right } });
const FROM_PROBE = { match: { op: '==', left: { payload: { protocol: 'tcp', field: 'sport' } }, right: { range: [64512, 65023] } } };
const carries = (text: string): object => ({ match: { op: '==', left: { payload: { base: 'ih', offset: 0, len: 32 } }, right: Buffer.from(text).readUInt32BE() } });
const guardRule = (chain: string, ...expr: object[]): object => ({ rule: { family: 'inet', table: 'imds-guard', chain, expr } });
/** As nft 1.0.6 lists it, apart from the time that an element has left. */
const timeless = (text: string): string => text.replaceAll(/ expires \w+/g, '');
const GUARD_TEXT = `table inet imds-guard {
\tset interfaces {
\t\ttype ifname
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 7d
\t}

\tset recent {
\t\ttype ifname
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 7d
\t}

\tset clients4 {
\t\ttype ifname . ipv4_addr
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 1d
\t}

\tset clients6 {
\t\ttype ifname . ipv6_addr
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 1d
\t}

\tset probes {
\t\ttype ifname
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 1d
\t}

\tset puts {
\t\ttype ifname
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 1d
\t}

\tset gets {
\t\ttype ifname
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 1d
\t}

\tset processes {
\t\ttype cgroupsv2
\t\tsize 4096
\t\tflags dynamic,timeout
\t\ttimeout 1d
\t}

\tset since {
\t\ttype ifname
\t\tsize 1
\t\ttimeout 3650d
\t\telements = { "imds-guard" }
\t}

\tchain count {
\t\ttype filter hook prerouting priority -350; policy accept;
\t\tip daddr 169.254.169.254 tcp dport 80 goto asked
\t\tip6 daddr fd00:ec2::254 tcp dport 80 goto asked
\t}

\tchain asked {
\t\ttcp sport 64512-65023 goto probed
\t\ttcp flags ack goto carried
\t\ttcp flags syn goto begun
\t}

\tchain probed {
\t\ttcp flags ack return
\t\ttcp flags syn update @probes { iifname counter }
\t}

\tchain begun {
\t\tadd @interfaces { iifname counter }
\t\tupdate @recent { iifname }
\t\tupdate @clients4 { iifname . ip saddr counter }
\t\tupdate @clients6 { iifname . ip6 saddr counter }
\t}

\tchain carried {
\t\t@ih,0,32 0x50555420 update @puts { iifname counter }
\t\t@ih,0,32 0x47455420 update @gets { iifname counter }
\t}

\tchain count-node {
\t\ttype filter hook output priority -350; policy accept;
\t\tip daddr 169.254.169.254 tcp dport 80 goto asked-node
\t\tip6 daddr fd00:ec2::254 tcp dport 80 goto asked-node
\t}

\tchain asked-node {
\t\ttcp flags ack return
\t\ttcp sport 64512-65023 return
\t\tupdate @processes { socket cgroupv2 level 4 counter } return
\t\tupdate @processes { socket cgroupv2 level 3 counter } return
\t\tupdate @processes { socket cgroupv2 level 2 counter } return
\t\tupdate @processes { socket cgroupv2 level 1 counter } return
\t\tupdate @processes { socket cgroupv2 level 0 counter } return
\t}

\tchain forward {
\t\ttype filter hook forward priority -200; policy accept;
\t\tip daddr 169.254.169.254 counter packets 0 bytes 0 drop
\t\tip6 daddr fd00:ec2::254 counter packets 0 bytes 0 drop
\t}
}
`;

/** A listing without what differs from run to run. */
async function listed(firewall: Firewall, what: readonly string[]): Promise<object[]> {
  const text = JSON.stringify(JSON.parse(await firewall.nftList(what)), (name, value: unknown) => (name === 'handle' || name === 'expires' ? undefined : value));
  return (JSON.parse(text) as { nftables: object[] }).nftables.slice(1);
}

/** The firewall of one family and backend, in words a test can say shortly. */
interface Box {
  readonly firewall: Firewall;
  restore(...payload: string[]): Promise<void>;
  /** Without the comment lines: they hold dates. */
  save(table?: string, counters?: boolean): Promise<string>;
  /** The rule lines of filter FORWARD. */
  rules(counters?: boolean): Promise<string>;
  /** Where the rule stands in filter FORWARD, from 1; 0 when nowhere. */
  position(rule: string): Promise<number>;
}

function boxOf(firewall: Firewall, family: Family, backend: Backend): Box {
  const save = async (table?: string, counters = false): Promise<string> =>
    (await firewall.save(family, backend, table === undefined ? { counters } : { table, counters })).replaceAll(/^#.*\n/gm, '');
  const rules = async (counters = false): Promise<string> => ((await save('filter', counters)).match(/^(\[\d+:\d+\] )?-A FORWARD.*\n/gm) ?? []).join('');
  return {
    firewall,
    save,
    rules,
    restore: (...payload) => firewall.restore(family, backend, lines(...payload)),
    position: async (rule) => (await rules()).split('\n').indexOf(`-A FORWARD ${rule}`) + 1,
  };
}

const lines = (...all: string[]): string => all.map((line) => `${line}\n`).join('');

async function kindOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'it did not fail';
  } catch (error) {
    return error instanceof IptablesError ? error.kind : String(error);
  }
}

const refused = async (t: Test, call: Promise<unknown>, what: string): Promise<void> => {
  t.equal(await kindOf(call), 'refused', what);
};

// ── The worlds.

const fakeWorld = async (): Promise<World> => {
  const firewall = new FakeFirewall();
  let held = false;
  const restore = firewall.restore.bind(firewall);
  return {
    firewall: Object.assign(firewall, {
      restore: async (...asked: Parameters<Firewall['restore']>): Promise<void> => {
        for (const until = Date.now() + 1000; held && Date.now() < until; ) await new Promise((resolve) => setTimeout(resolve, 20));
        if (held) firewall.fail({ method: 'restore', kind: 'busy', times: 1 });
        await restore(...asked);
      },
    }),
    holdLock: async () => {
      held = true;
      return () => void (held = false);
    },
    end: async () => {},
  };
};

/**
 * A network namespace of its own with a /run of its own, for the lock there is the whole machine's. Held by a process
 * that ends when we do, however we end: no name is left behind. Root needs no user namespace; others need theirs.
 */
const isRoot = process.getuid?.() === 0;
// Two steps: a network namespace that is made together with its user namespace, before root is mapped, has its
// /proc/net/ip_tables_names owned by the real root, and iptables-legacy-save fails there.
const MAKE_USER = isRoot ? [] : ['--map-root-user', 'unshare'];
const ENTER_USER = isRoot ? [] : ['--user', '--preserve-credentials'];

async function namespaceWorld(): Promise<World & { readonly prefix: readonly string[] }> {
  const keeper = spawn('unshare', [...MAKE_USER, '--net', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && exec cat'], { stdio: ['pipe', 'pipe', 'pipe'] });
  await said(keeper, 'ready');
  const prefix = ['nsenter', '--target', String(keeper.pid), '--net', '--mount', ...ENTER_USER];
  return {
    prefix,
    firewall: new ProcessFirewall({ prefix, lockWaitSeconds: 1 }),
    holdLock: async () => {
      const [file, ...args] = [...prefix, 'flock', '/run/xtables.lock', 'sh', '-c', 'echo held; exec cat'];
      const holder = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
      await said(holder, 'held');
      return () => void holder.stdin!.end();
    },
    end: async () => {
      keeper.stdin!.end();
      if (keeper.exitCode === null) await once(keeper, 'exit');
    },
  };
}

/** Waits for the first word; fails with what the process complained about. */
async function said(child: ChildProcess, word: string): Promise<void> {
  let complaint = '';
  child.stderr!.on('data', (data: Buffer) => void (complaint += String(data)));
  const first = await Promise.race([once(child.stdout!, 'data').then(([data]) => String(data).trim()), once(child, 'close').then(() => '')]);
  if (first !== word) throw new Error(`no ${word}: ${complaint.trim()}`);
}

/** Why the kernel's part cannot run here; undefined when it can. */
async function whyNot(program: string): Promise<string | undefined> {
  try {
    const world = await namespaceWorld();
    await world.end();
    execFileSync(program, ['--version'], { stdio: 'ignore', env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

void t.test('the fake, as iptables-nft', async (t) => contract(t, 'nft', fakeWorld));
void t.test('the fake, as iptables-legacy', async (t) => contract(t, 'legacy', fakeWorld));

for (const backend of ['nft', 'legacy'] as const) {
  const why = await whyNot(`iptables-${backend}`);
  if (why !== undefined) t.comment(`NOT CHECKED AGAINST THE KERNEL, iptables-${backend}: ${why}`);
  void t.test(`iptables-${backend}`, why === undefined ? {} : { skip: `NOT CHECKED AGAINST THE KERNEL: ${why}` }, async (t) => contract(t, backend, namespaceWorld));
}

const whyNotLegacy = await whyNot('iptables-legacy');
void t.test('asking the legacy backend makes no table', whyNotLegacy === undefined ? {} : { skip: whyNotLegacy }, async (t) => {
  const world = await namespaceWorld();
  t.teardown(() => world.end());
  const made = (family: Family): string => {
    const [file, ...args] = [...world.prefix, 'cat', legacyTablesFile(family)];
    return execFileSync(file!, args, { encoding: 'utf8' });
  };
  for (const family of ['ipv4', 'ipv6'] as const) {
    t.equal(await world.firewall.save(family, 'legacy'), '');
    t.equal(await world.firewall.save(family, 'legacy', { table: 'mangle' }), '');
    t.equal(made(family), '');
    await world.firewall.restore(family, 'legacy', '*filter\nCOMMIT\n');
    t.equal(made(family), 'filter\n');
  }
  t.strictSame(await legacyTables('ipv4', '/nowhere'), [], 'a kernel without x_tables');
});

const whyNotKernel = (await whyNot('iptables-nft')) ?? whyNotLegacy;
const needsKernel = whyNotKernel === undefined ? {} : { skip: `NOT CHECKED AGAINST THE KERNEL: ${whyNotKernel}` };

void t.test('how real programs fail', needsKernel, async (t) => {
  const world = await namespaceWorld();
  t.teardown(() => world.end());
  const inside = { prefix: world.prefix };

  await t.test('not installed, with and without a prefix', async (t) => {
    for (const options of [inside, {}]) {
      const firewall = new ProcessFirewall({ ...options, programs: { 'iptables-nft-save': 'iptables-nft-nosuch', nft: '/nowhere/nft' } });
      t.equal(await kindOf(firewall.save('ipv4', 'nft')), 'not-installed');
      t.equal(await kindOf(firewall.nftList(['list', 'tables'])), 'not-installed');
    }
  });

  await t.test('not permitted: every call, without CAP_NET_ADMIN', async (t) => {
    // In the namespace of a root without the capability; the file of table names it may read.
    const firewall = new ProcessFirewall({ prefix: [...world.prefix, 'setpriv', '--bounding-set=-net_admin,-net_raw', '--inh-caps=-net_admin,-net_raw', '--'] });
    await world.firewall.restore('ipv4', 'legacy', '*filter\nCOMMIT\n');
    t.equal(await kindOf(firewall.save('ipv4', 'nft')), 'not-permitted');
    t.equal(await kindOf(firewall.save('ipv4', 'legacy')), 'not-permitted');
    t.equal(await kindOf(firewall.restore('ipv4', 'nft', '*filter\n:A - [0:0]\nCOMMIT\n')), 'not-permitted');
    t.equal(await kindOf(firewall.restore('ipv4', 'legacy', '*filter\n:A - [0:0]\nCOMMIT\n')), 'not-permitted', 'though it says the same as for a missing table');
    t.equal(await kindOf(firewall.nftList(['list', 'tables'])), 'not-permitted');
    t.equal(await kindOf(firewall.nftRun('add table inet x\n')), 'not-permitted');
  });

  await t.test('timed out: killed, with what is left of it known', async (t) => {
    const firewall = new ProcessFirewall({ ...inside, timeoutMs: 200, programs: { nft: 'sleep' }, prefix: [...world.prefix, 'sh', '-c', 'exec sleep 60'] });
    const from = Date.now();
    t.equal(await kindOf(firewall.nftList([])), 'timed-out');
    t.ok(Date.now() - from < 3000);
  });

  await t.test('aborted: before it started, and while it ran', async (t) => {
    t.equal(await kindOf(new ProcessFirewall({ ...inside, signal: AbortSignal.abort() }).save('ipv4', 'nft')), 'aborted');
    t.equal(await kindOf(new ProcessFirewall({ signal: AbortSignal.timeout(150), prefix: ['sh', '-c', 'exec sleep 60'] }).nftList([])), 'aborted');
  });

  await t.test('the lock cannot be opened', async (t) => {
    const locked = await namespaceWorld();
    t.teardown(() => locked.end());
    const [file, ...args] = locked.prefix;
    execFileSync(file!, [...args, 'mkdir', '/run/xtables.lock']);
    t.equal(await kindOf(locked.firewall.restore('ipv4', 'legacy', '*filter\nCOMMIT\n')), 'not-permitted');
  });

  await t.test('an error keeps what was sent and what was said', async (t) => {
    const error = await world.firewall.restore('ipv4', 'nft', '*filter\nbogus\nCOMMIT\n').catch((reason: unknown) => reason);
    t.match(error, { kind: 'refused', command: 'iptables-nft-restore', stdin: '*filter\nbogus\nCOMMIT\n', exitCode: 2, stderr: /Bad argument `bogus'/ });
    t.equal((error as Error).message, "iptables-nft-restore: refused line 2 `bogus`: Bad argument `bogus'. That table was left as it was.");
  });
});

// The clever against the obvious: what the fake makes of a payload, against what the kernel makes of it.
for (const backend of ['nft', 'legacy'] as const) {
  void t.test(`random payloads: the fake and iptables-${backend} end up alike`, needsKernel, async (t) => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
    t.comment(`SEED=${seed}`);
    const random = seeded(seed);
    const world = await namespaceWorld();
    t.teardown(() => world.end());
    const fake = boxOf(new FakeFirewall(), 'ipv4', backend);
    const real = boxOf(world.firewall, 'ipv4', backend);
    let landed = 0;
    for (let round = 0; round < 150; round++) {
      const payload = randomPayload(random, backend);
      const [expected, actual] = [await kindOf(fake.restore(...payload)), await kindOf(real.restore(...payload))];
      if (actual === 'it did not fail') landed++;
      const [mine, theirs] = [await fake.save(), await real.save()];
      if (expected !== actual || mine !== theirs) {
        t.equal(expected, actual, `SEED=${seed} round ${round}\n${lines(...payload)}`);
        t.equal(mine, theirs);
        return;
      }
    }
    t.ok(landed > 20 && landed < 150, `${landed} of 150 payloads landed`);
  });
}

function randomPayload(random: (below: number) => number, backend: Backend): string[] {
  const pick = <T>(items: readonly T[]): T => items[random(items.length)]!;
  const payload: string[] = [];
  for (let tables = 1 + random(2); tables > 0; tables--) {
    payload.push(`*${pick(['filter', 'filter', 'mangle', 'nat', 'raw'])}`);
    for (let left = random(6); left > 0; left--) {
      const chain = pick(['FORWARD', 'FORWARD', 'OUTPUT', 'A', 'A', 'B']);
      const rule = `${pick(['', '', '-i eth0 ', '! -o eni+ '])}-d 192.0.2.${random(3)} -j ${pick(['ACCEPT', 'ACCEPT', 'RETURN', 'A', 'B', 'REJECT'])}`;
      // No -R on nft: 1.8.9 crashes when it replaces a rule of the same payload.
      const line = pick([`:${pick(['A', 'A', 'B', 'FORWARD'])} - [0:0]`, `:${pick(['A', 'B'])} - [0:0]`, `-A ${chain} ${rule}`, `-A ${chain} ${rule}`, `-I ${chain} ${rule}`, `-I ${chain} 2 ${rule}`, `-D ${chain} ${rule}`, `-D ${chain} 1`, `-F ${chain}`, `-X ${pick(['A', 'B'])}`, `-N ${pick(['A', 'B'])}`, `-P ${chain} ${pick(['ACCEPT', 'DROP'])}`, ...(backend === 'legacy' ? [`-R ${chain} 1 ${rule}`] : [])]);
      // iptables-nft 1.8.9 counts positions as if a `:A` line had not emptied the chain: the fake does not follow it there.
      if (backend === 'nft' && payload.includes(`:${chain} - [0:0]`) && /^-[ID] \w+ \d/.test(line)) continue;
      payload.push(line);
    }
    payload.push('COMMIT');
  }
  return payload;
}

/** Mulberry32. */
function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
