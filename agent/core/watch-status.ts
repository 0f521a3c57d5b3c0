import type { Basis, Observation } from './probe/joined-report.ts';
import type { Answer, Reason } from './reasons.ts';
import type { Report } from './report.ts';

/** What the daemon knows, as `GET /status` prints it: documented in agent/commands/watch.md, stable. Times are RFC 3339. */
export interface WatchStatus {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  /** `watching`: this instance keeps the rules. `standing-by`: another instance does, and this one only looks. */
  readonly role: 'watching' | 'standing-by';
  /** The instance that keeps the rules, while this one stands by. */
  readonly leader?: { readonly pid: number };
  /** `observe`: who asks is counted and nobody blocked, so that `answer` says `open`, unless somebody else blocks. */
  readonly mode: 'enforce' | 'observe';
  /** `unknown` until the first look ends, when a look fails, and when a change was not looked at within ten seconds. */
  readonly answer: Answer;
  readonly reason: Reason;
  /** What the reason does not say: which look failed, and how; the doubt that is left, or the two sides of a disagreement. */
  readonly message: string;
  /** What the answer rests on: a proof from the rules, packets that were sent from networks of pods, both, or neither. */
  readonly basis: Basis;
  /** What the rules alone say, as of the last look. */
  readonly installed?: { readonly answer: Answer; readonly reason: Reason };
  /** What packets did that were sent from networks of pods, since the last change; or why none were. */
  readonly observed: Observation;
  /** When the answer was last proved by a look; undefined before the first. */
  readonly checkedAt?: string;
  /** Whether `blocked` has been proved since this instance started, and since its mode was another. */
  readonly provedBlocked: boolean;
  readonly guard: GuardStatus;
  readonly events: EventStatus;
  readonly legacy: LegacyStatus;
  readonly audit: { readonly state: 'read' | 'absent'; readonly because?: string };
  /** How the writing of the node's condition goes; undefined where none is written. */
  readonly kubernetes?: { readonly node: string; readonly written: Readonly<Record<string, number>>; readonly trouble?: string };
  readonly contention: readonly Contention[];
  /** The newest last; at most a hundred. */
  readonly overwrites: readonly Overwrite[];
  readonly counts: Counts;
  /** The last look in full: what `check --output json` prints. */
  readonly report?: Report;
}

export interface GuardStatus {
  /**
   * `owned-persistent`: nobody else can change it, and it outlives this process. `owned`: nobody else can change it; a
   * plain one stands beside it for when this process dies. `plain`: it is put back when it is lost. `absent`: because.
   */
  readonly state: 'owned-persistent' | 'owned' | 'plain' | 'absent';
  readonly because?: string;
  /** Packets to IMDS that it dropped, by family; undefined where there is no table, and in mode `observe`. */
  readonly droppedPackets?: { readonly ipv4: number; readonly ipv6: number };
}

export interface EventStatus {
  /** `subscribed`: changes are told by the kernel. `polling`: they are not, and the node is looked at every `resyncSeconds`. */
  readonly state: 'subscribed' | 'polling';
  readonly because?: string;
  readonly received: number;
  /** Of those, the ones that touched something on the way of a packet to IMDS. */
  readonly relevant: number;
  /** How often the kernel said that it had to throw some away. */
  readonly lost: number;
  /** The last generation of nf_tables that was heard of. */
  readonly generation?: number;
  readonly resyncSeconds: number;
}

export interface LegacyStatus {
  /** The tables of iptables-legacy that are polled, because the kernel tells nobody when they change. */
  readonly tables: readonly string[];
  /** Undefined while there are none. */
  readonly pollMs?: number;
}

/** Somebody undid what we keep. */
export interface Overwrite {
  readonly at: string;
  /** `iptables-nft ipv4 filter FORWARD: -A FORWARD -d … -j DROP`, `nft inet imds-guard`, or what a look found. */
  readonly lost: readonly string[];
  readonly culprit: Culprit;
  /** From the moment we were told until it was back; undefined while it is not. */
  readonly restoredAfterMs?: number;
  /** `no`: the guard table stood all the while. `unknown`: only other rules of ours did. `yes`: none did. */
  readonly couldHavePassed: 'no' | 'unknown' | 'yes';
}

/** Who did it, as far as that is known for certain. */
export interface Culprit {
  /** The name of the process (comm, 15 bytes at most); undefined where the kernel does not tell (iptables-legacy without audit). */
  readonly name?: string;
  readonly pid?: number;
  /** While it lived. */
  readonly commandLine?: string;
  /** The parent's name: `calico-node` for the iptables-nft-restore that it starts. */
  readonly parent?: string;
  readonly container?: string;
  readonly podUid?: string;
}

export interface Contention {
  readonly culprit: string;
  readonly what: string;
  readonly times: number;
  readonly since: string;
  /** `left`: the position does not matter, so it is not contested. `backing-off`: it is taken again, ever more rarely. */
  readonly doing: 'left' | 'backing-off';
  readonly nextTryAt?: string;
}

export interface Counts {
  readonly checks: Readonly<Record<Answer | 'failed', number>>;
  /** Rounds of packets that were sent, by what they said; `failed` for those that could not be. */
  readonly probes: Readonly<Record<string, number>>;
  readonly overwritesByCulprit: Readonly<Record<string, number>>;
  readonly repairs: Histogram;
  readonly errors: Readonly<Record<string, number>>;
  /** Rules of ours that the last look found, and that it missed: `filter FORWARD ipv4 nft` → there. */
  readonly rules: readonly { readonly family: string; readonly table: string; readonly chain: string; readonly layer: string; readonly present: boolean }[];
}

export interface Histogram {
  /** Upper bounds in seconds, ascending, without +Inf. */
  readonly bounds: readonly number[];
  /** How many were at most each bound, cumulative; one longer than `bounds` for +Inf. */
  readonly cumulative: readonly number[];
  readonly sumSeconds: number;
}
