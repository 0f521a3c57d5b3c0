// One ruleset against one kernel: live connections are opened, rules are loaded, the judge is asked about each pod, and
// packets are sent.
import { nftBaseChains } from '../../agent/node-iptables/src/nft/base-chains.ts';
import { parseNftJson } from '../../agent/node-iptables/src/nft/parse-json.ts';
import { CT_STATE, type PacketClass, TCP, TCP_FLAGS, anyPacket } from '../../agent/node-iptables/src/packet/packet-class.ts';
import { parseSave } from '../../agent/node-iptables/src/save/parse-save.ts';
import { addressBlock } from '../../agent/node-iptables/src/sets/address.ts';
import { UNKNOWN_BITS } from '../../agent/node-iptables/src/sets/bits.ts';
import { interval } from '../../agent/node-iptables/src/sets/interval-set.ts';
import { nameSet } from '../../agent/node-iptables/src/sets/name-set.ts';
import type { Judgement, Question } from '../../agent/node-iptables/src/trace/conversation.ts';
import { baseChainsOf } from '../../agent/node-iptables/src/trace/from-save.ts';
import type { BaseChain } from '../../agent/node-iptables/src/trace/program.ts';
import { type ScenePod, SERVICE } from './generate.ts';
import type { World } from './kernel-world.ts';
import { type FuzzRuleset, nftText, restoreText } from './ruleset.ts';

export type Judge = (bases: readonly BaseChain[], question: Question) => Judgement;

export interface Asked {
  readonly about: 'pod' | 'eni+' | 'everybody';
  readonly live: boolean;
  readonly answer: Judgement['answer'];
  /** Why it is unknown, and the doubts about it; empty otherwise. */
  readonly because: string;
  /** Pods the question is about that got an answer, and that got none. */
  readonly served: readonly ScenePod[];
  readonly silent: readonly ScenePod[];
}

export interface Round {
  readonly ruleset: FuzzRuleset;
  /** What the restore programs and nft said, when they did not take the ruleset. */
  readonly refused: string | undefined;
  readonly asked: readonly Asked[];
  /** Requests judged blocked, by name: none of them may ever arrive. */
  readonly forbidden: ReadonlyMap<string, string>;
  /** Names of requests that arrived, of this round or of an earlier one. */
  readonly arrived: readonly string[];
}

/** How long to wait for an answer that must not come, and for one that must. */
const SILENCE_MS = 50;
const PATIENCE_MS = 3000;

export interface RoundOptions {
  readonly judge: Judge;
  /** A number that no other round of this world has had. */
  readonly number: number;
  readonly patienceMs?: number;
}

export async function playRound(world: World, ruleset: FuzzRuleset, options: RoundOptions): Promise<Round> {
  const { pods } = world.scene;
  await world.clear();
  const portOf = (live: boolean): number => FIRST_PORT + ((options.number * 2 + Number(live)) % PORTS);
  await Promise.all(pods.map(pod => world.openLive(pod, portOf(true))));
  const loaded = await load(world, ruleset);
  if ('refused' in loaded) return { ruleset, refused: loaded.refused, asked: [], forbidden: new Map(), arrived: await world.served() };

  const forbidden = new Map<string, string>();
  const asked: Asked[] = [];
  const attempts = pods.flatMap(pod =>
    [false, true].map(async live => {
      const name = `r${options.number}-${pod.interface}-${live ? 'live' : 'new'}`;
      const judgement = options.judge(loaded.bases, podQuestion(pod, live, portOf(live)));
      if (judgement.answer === 'blocked') forbidden.set(name, rulesOf(judgement));
      const waitMs = judgement.answer === 'open' ? (options.patienceMs ?? PATIENCE_MS) : SILENCE_MS;
      const answeredMs = await world.attempt(pod, { port: portOf(live), live, name, waitMs });
      asked.push(outcome('pod', live, judgement, answeredMs === undefined ? [] : [pod], answeredMs === undefined ? [pod] : []));
      return { pod, live, answered: answeredMs !== undefined };
    }),
  );
  const answers = await Promise.all(attempts);
  for (const [about, names] of [['eni+', nameSet('eni+')], ['everybody', nameSet('+')]] as const) {
    for (const live of [false, true]) {
      const among = answers.filter(answer => answer.live === live && (about === 'everybody' || answer.pod.interface.startsWith('eni')));
      const of = (answered: boolean): ScenePod[] => among.filter(answer => answer.answered === answered).map(({ pod }) => pod);
      asked.push(outcome(about, live, options.judge(loaded.bases, wideQuestion(names, live)), of(true), of(false)));
    }
  }
  return { ruleset, refused: undefined, asked, forbidden, arrived: await world.served() };
}

/** `blocked` with an answer for anybody it is about, or `open` for one pod and no answer. */
export const contradicts = ({ about, answer, served, silent }: Asked): boolean =>
  answer === 'blocked' ? served.length > 0 : answer === 'open' && about === 'pod' && silent.length > 0;

const FIRST_PORT = 1100;
const PORTS = 60_000;

function outcome(about: Asked['about'], live: boolean, judgement: Judgement, served: readonly ScenePod[], silent: readonly ScenePod[]): Asked {
  const because = judgement.answer === 'unknown' ? [judgement.because, ...judgement.doubts.slice(0, 1).map(({ why }) => why)].join(': ') : '';
  return { about, live, answer: judgement.answer, because, served, silent };
}

const rulesOf = (judgement: Judgement): string => (judgement.answer === 'blocked' ? judgement.proof.map(({ text }) => text).join('; ') : '');

/** Loads what the ruleset has for each backend, in an order that the seed chooses, and reads it as the agent would. */
async function load(world: World, ruleset: FuzzRuleset): Promise<{ bases: BaseChain[] } | { refused: string }> {
  const feed = (program: string, input: string): string => `${program} <<'END-OF-INPUT' || exit_status=1\n${input}END-OF-INPUT\n`;
  const steps = [
    ...(ruleset.nft.length > 0 ? [feed('iptables-nft-restore', restoreText(ruleset.nft))] : []),
    ...(ruleset.legacy.length > 0 ? [`legacy=used\n${feed('iptables-legacy-restore -w', restoreText(ruleset.legacy))}`] : []),
    ...(ruleset.native.length > 0 ? [feed('nft -f -', nftText(ruleset.native))] : []),
  ];
  if (ruleset.seed % 2 === 1) steps.reverse();
  const { status, output } = await world.node.run(`exit_status=0\n${steps.join('')}test "$exit_status" = 0`);
  if (status !== 0) return { refused: output };

  const native = ruleset.native.length === 0 ? [] : nftBaseChains(parseNftJson(await world.node.succeed('nft -j list ruleset')), 'ipv4', ({ name }) => name.startsWith('fuzz'));
  // What iptables-save prints of a ruleset must mean what its author wrote.
  const saved = ruleset.seed % 5 === 0;
  const text = async (backend: 'nft' | 'legacy'): Promise<string> =>
    saved && ruleset[backend].length > 0 ? await world.node.succeed(`iptables-${backend}-save`) : restoreText(ruleset[backend]);
  const iptables = [];
  for (const backend of ['nft', 'legacy'] as const) iptables.push(...baseChainsOf(parseSave(await text(backend), { family: 'ipv4', backend })));
  return { bases: [...iptables, ...native] };
}

function podQuestion(pod: ScenePod, live: boolean, port: number): Question {
  const request: PacketClass = {
    ...requestClass(live),
    iif: nameSet(pod.interface),
    oif: nameSet(pod.out),
    src: addressBlock('ipv4', pod.address)!,
    sport: interval(port, port + 1),
  };
  return { request, likely: request, picks: { interfaces: [pod.interface, pod.out], sourcePort: port } };
}

function wideQuestion(names: PacketClass['iif'], live: boolean): Question {
  const request = { ...requestClass(live), iif: names };
  return { request, likely: request, picks: { interfaces: ['ens5'], sourcePort: 40_000 } };
}

function requestClass(live: boolean): PacketClass {
  return {
    ...anyPacket('ipv4'),
    dst: addressBlock('ipv4', SERVICE)!,
    proto: TCP,
    dport: interval(80, 81),
    ctstate: live ? CT_STATE.ESTABLISHED : CT_STATE.NEW,
    ctstatus: UNKNOWN_BITS,
    flags: { known: 0xff, value: live ? TCP_FLAGS.ACK | TCP_FLAGS.PSH : TCP_FLAGS.SYN },
  };
}
