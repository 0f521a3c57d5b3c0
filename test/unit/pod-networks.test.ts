import t from 'tap';
import type { ListedLink } from 'node-iptables/netlink';
import { EACH_KIND, choose, kindOf } from '../../agent/core/probe/choose.ts';
import { podNetworkOf } from '../../agent/core/probe/pod-network-links.ts';
import type { PodNetwork } from '../../agent/core/probe/pod-network.ts';
import { nextProbeAt } from '../../agent/core/probe/rhythm.ts';

const link = (index: number, name: string, more: Partial<ListedLink> = {}): ListedLink => ({ index, name, kind: 'veth', loopback: false, peerIndex: 0, peerNamespace: undefined, master: 0, ...more });
const lo = link(1, 'lo', { kind: '', loopback: true });
const NODE = 7;
const node = { links: [lo, link(2, 'ens5', { kind: '', peerIndex: 0 }), link(3, 'eni1', { peerIndex: 2, peerNamespace: 0 }), link(4, 'up', { peerIndex: 9, peerNamespace: 1 })], uplinks: new Set(['ens5', 'up']) };
const toNode = (more: Partial<ListedLink> = {}): ListedLink => link(2, 'eth0', { peerIndex: 3, peerNamespace: NODE, ...more });

t.test('a namespace is a pod of this node by where its links lead', async (t) => {
  t.same(podNetworkOf({ links: [lo, toNode()], nodeId: NODE }, node, false), { hostInterfaces: ['eni1'], strangers: [], inward: [] });
  t.equal(podNetworkOf({ links: [lo, toNode({ peerNamespace: 8 })], nodeId: NODE }, node, false), undefined, 'a veth into some other namespace');
  t.equal(podNetworkOf({ links: [lo, toNode()], nodeId: undefined }, node, false), undefined, 'no link leads to the node at all');
  t.equal(podNetworkOf({ links: [lo, toNode({ peerIndex: 5 })], nodeId: NODE }, node, false), undefined, 'an index that the node does not have');
  t.equal(podNetworkOf({ links: [lo, toNode({ index: 6 })], nodeId: NODE }, node, false), undefined, 'the other end says otherwise');
  t.equal(podNetworkOf({ links: [lo, link(9, 'down', { peerIndex: 4, peerNamespace: NODE })], nodeId: NODE }, node, false), undefined, 'a router that the node goes out by');
  t.match(podNetworkOf({ links: [lo, link(9, 'down', { peerIndex: 4, peerNamespace: NODE })], nodeId: NODE }, node, true), { hostInterfaces: ['up'] }, 'but no pod hides behind a default route');
  t.equal(podNetworkOf({ links: [lo], nodeId: undefined }, node, true), undefined, 'a pod without a network');
});

t.test('what is no veth of this node is named', async (t) => {
  const macvlan = link(5, 'eth1', { kind: 'macvlan', peerIndex: 2, peerNamespace: NODE });
  t.same(podNetworkOf({ links: [lo, toNode(), macvlan], nodeId: NODE }, node, false), { hostInterfaces: ['eni1'], strangers: [{ name: 'eth1', kind: 'macvlan', isCard: true }], inward: [] });
  const card = link(5, 'eth1', { kind: '' });
  t.equal(podNetworkOf({ links: [lo, card], nodeId: undefined }, node, false), undefined, "somebody else's machine: no packet is sent from there");
  t.same(podNetworkOf({ links: [lo, card, link(6, 'sit0', { kind: 'sit' })], nodeId: undefined }, node, true), { hostInterfaces: [], strangers: [{ name: 'eth1', kind: 'card', isCard: true }], inward: [] }, "a pod's, by its cgroup");
});

t.test('what a pod can make inside of its own network is no card, and no way out', async (t) => {
  const inner = link(2, 'eth0', { peerIndex: 5, peerNamespace: 3 });
  t.same(podNetworkOf({ links: [lo, inner], nodeId: undefined }, node, true), { hostInterfaces: [], strangers: [], inward: ['eth0'] }, 'docker in docker');
  t.same(podNetworkOf({ links: [lo, toNode(), link(5, 'docker1', { peerIndex: 2, peerNamespace: 0 })], nodeId: NODE }, node, true), { hostInterfaces: ['eni1'], strangers: [], inward: ['docker1'] }, 'and what is around it');
  const here = [link(5, 'a', { peerIndex: 6 }), link(6, 'b', { peerIndex: 5 }), link(7, 'mac0', { kind: 'macvlan', peerIndex: 2 })];
  t.same(podNetworkOf({ links: [lo, toNode(), ...here], nodeId: NODE }, node, true), { hostInterfaces: ['eni1'], strangers: [], inward: [] }, 'on its own links');
  t.match(podNetworkOf({ links: [lo, link(5, 'bond0', { kind: 'bond' })], nodeId: undefined }, node, true), { strangers: [{ kind: 'bond', isCard: false }] }, 'which may be the node\'s, or made up');
});

const network = (number: number, pattern: string, stranger?: string): PodNetwork => ({ inode: `net:[${number}]`, path: `/run/netns/${number}`, pods: [], hostInterfaces: pattern === '' ? [] : [`${pattern}${number}`], strangers: stranger === undefined ? [] : [{ name: 'eth0', kind: stranger, isCard: true }], inward: [] });
const patternOf = (name: string): string => name.replace(/\d+$/, '+');

t.test('some of each kind are tried, others the next time, and every pod with an interface of its own kind', async (t) => {
  const all = [...[1, 2, 3, 4, 5].map((number) => network(number, 'eni')), network(6, 'vlan'), network(7, '', 'macvlan'), network(8, '', 'macvlan'), network(9, 'eni', 'ipvlan')];
  const names = (turn: number): string => choose(all, patternOf, turn, false).map(({ path }) => path.slice(-1)).join('');
  t.equal(names(0), '126789');
  t.equal(names(1), '236789');
  t.equal(names(4), '516789');
  t.equal(choose(all, patternOf, 0, true).length, all.length);
  const nested = Array.from({ length: 600 }, (_, at): PodNetwork => ({ ...network(at, ''), inward: ['eth0'] }));
  t.equal(choose([...nested, ...all], patternOf, 0, false).length, EACH_KIND + 6, 'what a pod makes inside of it by the hundred is one kind');
  t.ok(EACH_KIND >= 1);
  t.equal(kindOf(all[0]!, patternOf), 'eni+');
  t.equal(kindOf(all[8]!, patternOf), 'ipvlan');
});

t.test('packets are sent soon after a change, ever more rarely under a rival, and never in step', async (t) => {
  const every = 900_000;
  t.equal(nextProbeAt({ startedMs: undefined, changedMs: undefined, inARow: 0 }, 1000, every, 0.5), 2000);
  t.equal(nextProbeAt({ startedMs: 0, changedMs: undefined, inARow: 0 }, 1000, every, 0), every * 0.75);
  t.equal(nextProbeAt({ startedMs: 0, changedMs: undefined, inARow: 0 }, 1000, every, 1), every * 1.25);
  t.equal(nextProbeAt({ startedMs: 0, changedMs: 50_000, inARow: 0 }, 50_000, every, 0.5), 51_000, 'the last was long ago: soon');
  t.equal(nextProbeAt({ startedMs: 0, changedMs: 100, inARow: 0 }, 100, every, 0), 10_000);
  t.equal(nextProbeAt({ startedMs: 0, changedMs: 100, inARow: 3 }, 100, every, 0), 80_000);
  t.equal(nextProbeAt({ startedMs: 0, changedMs: 100, inARow: 30 }, 100, every, 0), 300_000, 'and no more rarely than that');
});
