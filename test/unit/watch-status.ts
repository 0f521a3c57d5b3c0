import type { WatchStatus } from '../../agent/core/watch-status.ts';

const DROPPED = { class: 'dropped', because: 'it went no further', connected: false } as const;

/** A daemon that has just proved its node blocked, and some of its days. */
export const statusOf = (changed: Partial<WatchStatus> = {}): WatchStatus => ({
  version: '1.2.3',
  pid: 4321,
  startedAt: '2026-11-22T20:00:00.250Z',
  role: 'watching',
  mode: 'enforce',
  answer: 'blocked',
  reason: 'EveryPacketDropped',
  message: 'every packet of every pod to IMDS is dropped',
  basis: ['rules'],
  observed: {
    state: 'tried', answer: 'blocked', reason: 'EveryProbeDied', message: '', control: [], hopLimit: { ipv4: 1 }, skipped: [], uncovered: [], found: 1, tookMs: 900,
    networks: [{ pods: [], networkNamespace: '/run/netns/a', family: 'ipv4', interfaces: ['eni1'], kind: 'eni+', otherWays: [], unruled: [], class: 'dropped', v1: DROPPED, v2: DROPPED, reached: false }],
  },
  checkedAt: '2026-11-22T21:00:00.000Z',
  provedBlocked: true,
  guard: { state: 'owned-persistent', droppedPackets: { ipv4: 17, ipv6: 0 } },
  events: { state: 'subscribed', received: 1200, relevant: 30, lost: 1, generation: 99, resyncSeconds: 600 },
  legacy: { tables: [] },
  audit: { state: 'absent', because: 'not asked for' },
  contention: [],
  overwrites: [],
  counts: {
    checks: { blocked: 40, open: 2, unknown: 1, failed: 0 },
    probes: { blocked: 3 },
    overwritesByCulprit: { 'calico-node': 3 },
    repairs: { bounds: [0.01, 0.1, 1], cumulative: [1, 2, 2, 3], sumSeconds: 4.5 },
    errors: {},
    rules: [
      { family: 'ipv4', table: 'filter', chain: 'FORWARD', layer: 'documented', present: true },
      { family: 'ipv4', table: 'mangle', chain: 'FORWARD', layer: 'out-of-reach', present: true },
    ],
  },
  ...changed,
});
