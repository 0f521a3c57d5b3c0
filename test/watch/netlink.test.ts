import t, { type Test } from 'tap';
import { execFileSync } from 'node:child_process';
import { NetlinkRequests, openEvents } from '../../agent/node-iptables/src/kernel/index.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, NFNLGRP_NFTABLES, RTNLGRP, listLinks, messagesOf, readLinkEvent, readNftEvent } from '../../agent/node-iptables/src/netlink/index.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { LinkTable } from '../../agent/core/watch/link-table.ts';
import { outlookOf } from '../../agent/core/watch/outlook.ts';
import { type Transaction, TransactionReader } from '../../agent/core/watch/transaction.ts';
import { KernelRules } from '../../agent/effects/kernel-rules.ts';

const run = (line: string, input = ''): string => execFileSync('sh', ['-c', line], { encoding: 'utf8', input });
const flush = (): string => run('nft flush ruleset');
const documented = '-i eni+ -d 169.254.169.254/32 -j DROP';
const ours = `iptables-nft -I FORWARD 1 ${documented}; iptables-nft -t mangle -A POSTROUTING -o vlan+ -d 169.254.169.254/32 -j DROP;
  ip6tables-nft -I FORWARD 1 -i eni+ -d fd00:ec2::254/128 -j DROP; for i in iptables-nft:169.254.169.254/32 ip6tables-nft:fd00:ec2::254/128; do
  \${i%%:*} -t mangle -A FORWARD -d \${i#*:} -m comment --comment imds-guard -j DROP; done; ip6tables-nft -t mangle -A POSTROUTING -o vlan+ -d fd00:ec2::254/128 -j DROP`;
/** Without dates, counters of chains and the order of tables. */
const saved = (): string => run('iptables-nft-save; ip6tables-nft-save').replaceAll(/^#.*\n/gm, '').replaceAll(/\[\d+:\d+\]/g, '[0:0]');

/** Hears what changes, as the daemon does. */
async function listen(t: Test, outlook = outlookOf(DEFAULT_SETTINGS, undefined, 'nft')) {
  const reader = new TransactionReader(outlook, new Set(['imds-guard']));
  const heard: Transaction[] = [];
  let wake = (): void => {};
  const events = await openEvents({ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES], receiveBytes: 1 << 23 }, {
    message: (datagram) => {
      for (const message of messagesOf(datagram)) {
        const event = readNftEvent(message);
        const transaction = event && reader.read(event);
        if (transaction) heard.push(transaction);
      }
      wake();
    },
    error: (error) => t.fail(String(error)),
  });
  t.teardown(() => events.close());
  const next = async (): Promise<Transaction> => {
    while (heard.length === 0) await new Promise<void>((heard) => (wake = heard));
    return heard.shift()!;
  };
  return { next, heard, reader };
}

const rulesOf = async (t: Test): Promise<KernelRules> => {
  const requests = await NetlinkRequests.open(NETLINK_NETFILTER);
  t.teardown(() => requests.close());
  return new KernelRules(requests);
};

t.test('each of our rules that iptables deletes is known as ours, by whom, and comes back as the very same rule', async (t) => {
  flush();
  run(ours);
  const before = saved();
  const { next } = await listen(t);
  const rules = await rulesOf(t);
  for (const [table, count] of [['filter', 1], ['mangle', 2]] as const) {
    for (const program of ['iptables-nft', 'ip6tables-nft']) {
      run(`${program} -t ${table} -F`);
      const transaction = await next();
      t.equal(transaction.process, program);
      t.equal(transaction.lost.length, count, `${program} -t ${table} -F`);
      t.not(saved(), before);
      t.equal(rules.putBack(transaction.lost), undefined);
      t.equal((await next()).port, rules.port, 'our own change is told too, and known as ours');
      t.equal(saved(), before);
    }
  }
  run(`iptables-nft -C FORWARD ${documented}`);
  run(`iptables-nft -D FORWARD ${documented}`);
  t.equal((await next()).lost.length, 1, 'iptables finds and deletes what was put back like its own');
});

t.test('after everything is flushed the rules come back with their tables, chains where iptables-nft has them, policy accept', async (t) => {
  flush();
  run(ours);
  const before = saved();
  const { next } = await listen(t);
  const rules = await rulesOf(t);
  run('iptables-nft -P FORWARD DROP; nft flush ruleset');
  await next();
  const transaction = await next();
  t.equal(transaction.process, 'nft');
  t.equal(transaction.lost.length, 6);
  // Rules of one table come back together, whatever became of another.
  for (const lost of Map.groupBy(transaction.lost, ({ rule }) => `${rule.family} ${rule.table}`).values()) t.equal(rules.putBack(lost), undefined);
  t.equal(saved(), before);
});

t.test('what is written again in the same batch was not lost', async (t) => {
  flush();
  run(ours);
  const { next } = await listen(t);
  run('iptables-nft-save > /run/all; iptables-nft-restore < /run/all');
  const all: Transaction[] = [];
  const marker = run('iptables-nft -t nat -N MARKER; echo done');
  t.equal(marker, 'done\n');
  for (let last = ''; last !== 'iptables-nft'; ) {
    const transaction = await next();
    all.push(transaction);
    last = transaction.process;
  }
  t.same(all.flatMap(({ lost }) => lost), []);
});

t.test('of a rule that is there twice exactly the one goes that is named; the only one stays', async (t) => {
  flush();
  run(ours);
  const { next } = await listen(t);
  const rules = await rulesOf(t);
  run(`iptables-nft -A FORWARD ${documented}`);
  const [again] = (await next()).wrote;
  run('iptables-nft -A FORWARD -d 10.0.0.1 -j ACCEPT');
  rules.dropDoubles(again!.rule, new Set([again!.handle]));
  t.equal(run('iptables-nft -S FORWARD'), '-P FORWARD ACCEPT\n-A FORWARD -d 169.254.169.254/32 -i eni+ -j DROP\n-A FORWARD -d 10.0.0.1/32 -j ACCEPT\n');
  run(`iptables-nft -D FORWARD ${documented}; iptables-nft -A FORWARD ${documented}`);
  let wrote: Transaction['wrote'] = [];
  while (wrote.length === 0) ({ wrote } = await next());
  rules.dropDoubles(wrote[0]!.rule, new Set([wrote[0]!.handle]));
  t.match(run('iptables-nft -S FORWARD'), '-i eni+ -j DROP');
});

t.test('rules like ours that are not are nobody of ours', async (t) => {
  flush();
  const { next } = await listen(t);
  for (const rule of ['-d 169.254.169.254/32 -j ACCEPT', '-i eni+ -s 10.0.0.0/8 -d 169.254.169.254/32 -j DROP', '-i eth0 -d 169.254.169.254/32 -j DROP', '-i eni+ -d 169.254.169.253/32 -j DROP', '-i eni+ ! -d 169.254.169.254/32 -j DROP', '-i eni+ -d 169.254.169.254/31 -j DROP', '-i eni+ -p tcp -d 169.254.169.254/32 -j DROP', '-i eni+ -d 169.254.169.254/32 -j REJECT', '-i eni+ -d 169.254.169.254/32 -m comment --comment x -j DROP']) {
    run(`iptables-nft -I FORWARD ${rule}`);
    await next();
    run(`iptables-nft -D FORWARD ${rule}`);
    t.same((await next()).lost, [], rule);
  }
});

t.test('somebody else on top of the chain in which ours is to be the first is seen; anywhere else is not', async (t) => {
  flush();
  run(ours);
  const { next } = await listen(t);
  const above = async (line: string): Promise<number> => {
    run(line);
    return (await next()).above.length;
  };
  t.equal(await above('iptables-nft -I FORWARD -i eni+ -j ACCEPT'), 1);
  t.equal(await above('iptables-nft -A FORWARD -i eni+ -j ACCEPT'), 0);
  t.equal(await above('iptables-nft -I FORWARD 3 -j ACCEPT'), 0);
  t.equal(await above('iptables-nft -I INPUT -j ACCEPT'), 0);
  t.equal(await above('iptables-nft -t mangle -I FORWARD -j ACCEPT'), 0, 'there ours need not be the first');
  t.equal(await above(`iptables-nft -I FORWARD ${documented}`), 0, 'ours');
});

t.test('whether a rule of a chain on the path may concern a packet to IMDS', async (t) => {
  flush();
  run('iptables-nft -t nat -N KUBE; ip6tables-nft -t nat -N KUBE; nft add table inet x; nft add chain inet x c');
  const { next } = await listen(t);
  const concerns = async (line: string): Promise<boolean> => {
    run(line);
    return (await next()).chains.length > 0;
  };
  const four = (rule: string): Promise<boolean> => concerns(`iptables-nft -t nat -A KUBE ${rule}`);
  for (const rule of ['-d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https" -m tcp --dport 443 -j RETURN', '-d 10.0.0.0/8 -j RETURN', '! -d 169.254.169.254/32 -j RETURN', '-d 169.254.169.253/32 -j RETURN', '-d 169.254.0.0/17 -j RETURN', '-d 0.0.0.0/1 -j RETURN', '-s 10.0.0.1 -d 192.168.0.0/16 -j RETURN', '-m comment --comment 169.254.169.254 -d 10.0.0.1 -j RETURN']) {
    t.equal(await four(rule), false, rule);
  }
  for (const rule of ['-d 169.254.0.0/16 -j RETURN', '-d 169.254.169.254/32 -j RETURN', '! -d 10.96.0.1/32 -j RETURN', '-j RETURN', '-p tcp --dport 80 -j RETURN', '-s 10.0.0.0/8 -j RETURN', '-m addrtype --dst-type LOCAL -j RETURN', '-j MARK --set-mark 4', '-d 128.0.0.0/1 -j RETURN']) {
    t.equal(await four(rule), true, rule);
  }
  for (const [rule, answer] of [['-d fd00:ec2::253/128', false], ['-d fd00:ec2::/32', true], ['-d 2001:db8::/32', false], ['-d fd00:ec2::254/128', true]] as const) t.equal(await concerns(`ip6tables-nft -t nat -A KUBE ${rule} -j RETURN`), answer, rule);
  const inet = (rule: string): Promise<boolean> => concerns(`nft 'add rule inet x c ${rule}'`);
  for (const rule of ['ip daddr 10.0.0.1 accept', 'ip daddr != 169.254.169.254 accept', 'ip6 daddr 2001:db8::1 accept', 'ip daddr 10.0.0.0/9 accept']) t.equal(await inet(rule), false, rule);
  for (const rule of ['ip daddr 169.254.169.254 accept', 'accept', 'meta mark set 1 ip daddr 10.0.0.1 accept', 'ip daddr 169.254.0.0/16 accept', 'ip6 daddr fd00::/8 accept', 'ip saddr 10.0.0.1 accept']) t.equal(await inet(rule), true, rule);
});

t.test('a chain that was flushed and written the same has the same signature; one rule more, less or elsewhere has not', async (t) => {
  flush();
  const rules = await rulesOf(t);
  const chain = { family: 'ip', table: 'nat', chain: 'KUBE' } as const;
  const write = (...lines: readonly string[]): string => run('iptables-nft-restore --noflush', `*nat\n:KUBE - [0:0]\n${lines.map((line) => `-A KUBE ${line}\n`).join('')}COMMIT\n`);
  const [elsewhere, local, mark] = ['-d 10.96.0.1/32 -j RETURN', '-m addrtype --dst-type LOCAL -j RETURN', '-j MARK --set-mark 4'] as const;
  write(elsewhere, local, mark);
  const first = rules.signatureOf(chain);
  write(elsewhere, local, mark);
  t.equal(rules.signatureOf(chain), first);
  write('-d 10.96.0.2/32 -j RETURN', local, mark, elsewhere);
  t.equal(rules.signatureOf(chain), first, 'rules for other destinations do not count');
  for (const lines of [[mark, local], [local], [local, mark, '-j RETURN'], [local, '-j MARK --set-mark 5'], []]) {
    write(...lines);
    t.not(rules.signatureOf(chain), first, lines.join(', '));
  }
  run('iptables-nft -t nat -F; iptables-nft -t nat -X KUBE');
  t.not(rules.signatureOf(chain), first, 'a chain that is gone');
});

t.test('tables and base chains have one text as long as they are the same', async (t) => {
  flush();
  const rules = await rulesOf(t);
  run(ours);
  const first = rules.structure();
  run('iptables-nft -t mangle -N SOME; iptables-nft -t mangle -A SOME -j DROP; iptables-nft -P FORWARD ACCEPT');
  t.equal(rules.structure(), first);
  for (const line of ['iptables-nft -P FORWARD DROP', "nft 'add table inet x'", "nft 'add chain inet x c { type filter hook forward priority 0; }'", "nft 'add table inet x { flags dormant; }'"]) {
    const before = rules.structure();
    run(line);
    t.not(rules.structure(), before, line);
  }
});

t.test('the kernel tells us the number by which it knows us', async (t) => {
  t.equal((await rulesOf(t)).ownPid(), process.pid);
});

t.test('links: pods that come, go and are renamed are told apart from what is no news', async (t) => {
  const table = new LinkTable();
  const requests = await NetlinkRequests.open(NETLINK_ROUTE);
  requests.list(listLinks(), (message) => {
    const event = readLinkEvent(message);
    if (event) table.apply(event, ['eni+']);
  });
  requests.close();
  t.ok(table.size >= 1);
  const changes: string[] = [];
  let ended = (): void => {};
  const events = await openEvents({ protocol: NETLINK_ROUTE, groups: [RTNLGRP.LINK, RTNLGRP.TC], receiveBytes: 1 << 23 }, {
    message: (datagram) => {
      for (const event of messagesOf(datagram).map(readLinkEvent).filter((one) => one !== undefined)) {
        const change = table.apply(event, ['eni+']);
        if (change !== 'nothing') changes.push(change);
        if (event.is === 'link' && event.name === 'END' && event.change === 'deleted') ended();
      }
    },
    error: (error) => t.fail(String(error)),
  });
  t.teardown(() => events.close());
  /** What was told of a line, up to a link that marks the end. */
  const told = async (line: string): Promise<string[]> => {
    changes.length = 0;
    const end = new Promise<void>((heard) => (ended = heard));
    run(`${line}; ip link add END type bridge; ip link del END`);
    await end;
    // Those of the link that marks the end are the last two.
    return [...new Set(changes.slice(0, -2))];
  };
  run('ip netns add other');
  t.teardown(() => run('ip netns del other'));
  t.same(await told('ip link add eni1 type veth peer name x netns other'), ['pod']);
  t.same(await told('ip link add strange1 type veth peer name y netns other'), ['unknown-kind'], 'a pod of a kind that has no pattern');
  t.same(await told('ip link set strange1 mtu 1400; ip link add br0 type bridge; ip link set br0 up; ip link set br0 down; ip link set br0 mtu 1400'), ['pod'], 'a link comes; what else becomes of it is no news');
  t.same(await told('ip link set eni1 name gone1'), ['pod'], 'a pod renamed away');
  t.same(await told('ip link add br1 type bridge; ip link set gone1 master br1'), ['pod', 'unknown-kind']);
});
