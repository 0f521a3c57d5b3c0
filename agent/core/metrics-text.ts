import { bounded } from './bounded-series.ts';
import { type Metric, type Sample, exposition } from './exposition.ts';
import type { GuardStatus, Histogram, WatchStatus } from './watch-status.ts';

/**
 * What `GET /metrics` prints, in Prometheus' text format 0.0.4. Names are stable, and documented in agent/commands/watch.md.
 *
 * Written by hand: prom-client is 7.4 MiB of anonymous memory, more than half of the 12 that the daemon may cost beyond
 * Node itself; and its registry would be a second place that knows the numbers.
 *
 * What is not known has no sample: a 0 would say that it was looked at.
 */
export function metricsText(status: WatchStatus): string {
  const { counts, events } = status;
  const counter = (name: string, help: string, samples: readonly Sample[] | number): Metric => ({ name: `imds_guard_${name}`, type: 'counter', help, samples: asSamples(samples) });
  const gauge = (name: string, help: string, samples: readonly Sample[] | number): Metric => ({ ...counter(name, help, samples), type: 'gauge' });
  return exposition([
    gauge('build_info', 'The version that runs; always 1.', [{ labels: { version: status.version }, value: 1 }]),
    { name: 'process_start_time_seconds', type: 'gauge', help: 'When this process started, in seconds since 1970.', samples: secondsOf(status.startedAt) },
    gauge('answer', 'Whether pods are kept from IMDS: 1 for the answer that holds now.', oneOf('answer', ANSWERS, status.answer)),
    gauge('proved_blocked', 'Whether blocked has been proved since this process started.', status.provedBlocked ? 1 : 0),
    gauge('checked_timestamp_seconds', 'When the answer was last proved by a look, in seconds since 1970.', secondsOf(status.checkedAt)),
    gauge('rule_present', 'Whether the last look found the rules of ours that belong here: 0 when one of them was missing.', rulesPresent(counts.rules)),
    gauge('guard_table', 'How the guard table stands: 1 for the state it is in.', oneOf('state', GUARD_STATES, status.guard.state)),
    counter('blocked_packets_total', 'Packets to IMDS that the guard table dropped.', blockedPackets(status.guard)),
    counter('overwrites_total', 'How often somebody undid what is kept, by who did it.', bounded(Object.entries(counts.overwritesByCulprit).map(([culprit, value]) => ({ labels: { culprit }, value })))),
    { name: 'imds_guard_repair_seconds', type: 'histogram', help: 'From the moment that an overwrite was told until what was lost was back.', samples: buckets(counts.repairs) },
    gauge('contention', 'How often somebody took what is kept, while it is contested.', bounded(status.contention.map(({ culprit, what, times }) => ({ labels: { culprit, what }, value: times })))),
    counter('checks_total', 'Looks at the node, by what they answered; failed for those that did not end.', each('answer', counts.checks)),
    counter('probes_total', 'Rounds of packets sent to IMDS from networks of pods, by what they said; failed for those that could not be sent.', each('answer', counts.probes)),
    gauge('probe_networks', 'What became of the packets of the last round, networks of pods by interface, family and class.', probeNetworks(status.observed)),
    gauge('hop_limit', "The TTL of token answers as they come to the node: the instance's hop limit on the wire.", hopLimits(status.observed)),
    counter('events_received_total', 'Changes that the kernel told.', events.received),
    counter('events_relevant_total', 'Of those, changes to something on the way of a packet to IMDS.', events.relevant),
    counter('events_lost_total', 'How often the kernel said that it had to throw changes away.', events.lost),
    counter('errors_total', 'What went wrong, by kind.', bounded(each('kind', counts.errors))),
  ]);
}

const ANSWERS: readonly WatchStatus['answer'][] = ['blocked', 'open', 'unknown'];
const GUARD_STATES: readonly GuardStatus['state'][] = ['owned-persistent', 'owned', 'plain', 'absent'];

const asSamples = (samples: readonly Sample[] | number): readonly Sample[] => (typeof samples === 'number' ? [{ labels: {}, value: samples }] : samples);

const oneOf = (label: string, states: readonly string[], now: string): Sample[] => states.map((state) => ({ labels: { [label]: state }, value: state === now ? 1 : 0 }));

const each = (label: string, values: Readonly<Record<string, number>>): Sample[] => Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value }));

function secondsOf(time: string | undefined): Sample[] {
  const ms = time === undefined ? NaN : Date.parse(time);
  return Number.isNaN(ms) ? [] : [{ labels: {}, value: ms / 1000 }];
}

function probeNetworks(observed: WatchStatus['observed']): Sample[] {
  if (observed.state !== 'tried') return [];
  const series = Map.groupBy(observed.networks, ({ kind, family, class: fate }) => JSON.stringify([kind, family, fate]));
  return bounded([...series.values()].map((some) => ({ labels: { kind: some[0]!.kind, family: some[0]!.family, class: some[0]!.class }, value: some.length })));
}

const hopLimits = (observed: WatchStatus['observed']): Sample[] => (observed.state === 'tried' ? Object.entries(observed.hopLimit).map(([family, value]) => ({ labels: { family }, value: value ?? 0 })) : []);

const blockedPackets = ({ droppedPackets }: GuardStatus): Sample[] => (droppedPackets ? [...each('family', { ipv4: droppedPackets.ipv4, ipv6: droppedPackets.ipv6 })] : []);

/** Several rules share a place (one for each pattern of interfaces): a series stands for all of them. */
function rulesPresent(rules: WatchStatus['counts']['rules']): Sample[] {
  const places = new Map<string, Sample>();
  for (const { family, table, chain, layer, present } of rules) {
    const place = JSON.stringify([family, table, chain, layer]);
    places.set(place, { labels: { family, table, chain, layer }, value: present ? (places.get(place)?.value ?? 1) : 0 });
  }
  return [...places.values()];
}

function buckets({ bounds, cumulative, sumSeconds }: Histogram): Sample[] {
  const count = cumulative[bounds.length] ?? 0;
  return [
    ...bounds.map((bound, at): Sample => ({ suffix: '_bucket', labels: { le: String(bound) }, value: cumulative[at] ?? 0 })),
    { suffix: '_bucket', labels: { le: '+Inf' }, value: count },
    { suffix: '_sum', labels: {}, value: sumSeconds },
    { suffix: '_count', labels: {}, value: count },
  ];
}
