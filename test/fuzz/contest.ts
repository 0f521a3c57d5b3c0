// Many rulesets, each judged and tried; what comes of it is counted, and a contradiction is made small.
import { type Scene, generate } from './generate.ts';
import { type World, makeWorld } from './kernel-world.ts';
import { type Asked, type Judge, type Round, contradicts, playRound } from './round.ts';
import { type FuzzRuleset, smaller } from './ruleset.ts';

export interface Contest {
  readonly rulesets: number;
  readonly refused: readonly { readonly seed: number; readonly output: string }[];
  /** Every question about one pod. */
  readonly answers: Readonly<Record<Asked['answer'], number>>;
  /** Questions about one pod, in rulesets whose matches are all known, and how many of them stayed unknown. */
  readonly decidable: { readonly asked: number; readonly unknown: number };
  /** Reasons for `unknown`, the commonest first. */
  readonly reasons: ReadonlyMap<string, number>;
  /** Questions about whole classes that got a `blocked`: the verdict that vouches for many pods at once. */
  readonly wideBlocked: number;
  readonly contradictions: readonly Contradiction[];
}

export interface Contradiction {
  /** As small as it could be made; its seed is that of the whole. */
  readonly ruleset: FuzzRuleset;
  readonly what: string;
}

export interface ContestOptions {
  /** The first ruleset's; the next one's is one more. So each can be had again alone. */
  readonly seed: number;
  readonly runs: number;
  readonly judge: Judge;
  /** Worlds that work side by side: most of a round is waiting. */
  readonly worlds: number;
  /** Rounds a contradiction may cost on its way to a small one. */
  readonly shrinkRounds: number;
  /** How long an answer may take that has been promised; the round's own default. */
  readonly patienceMs?: number;
}

/** After this many the point is made. */
const MOST_CONTRADICTIONS = 3;

export async function holdContest(options: ContestOptions): Promise<Contest> {
  const tally = new Tally();
  let next = 0;
  const play = async (world: World): Promise<void> => {
    const player = new Player(world, options.judge);
    while (next < options.runs && tally.contradictions.length < MOST_CONTRADICTIONS) {
      const ruleset = generate(options.seed + next++, world.scene);
      const round = await player.play(ruleset, options.patienceMs);
      tally.add(round);
      const wrong = round.asked.find(contradicts);
      if (wrong) tally.contradictions.push(await player.shrink(ruleset, wrong, options.shrinkRounds));
      else tally.contradictions.push(...player.late(round, world.scene));
    }
  };
  const worlds: World[] = [];
  try {
    for (let made = 0; made < options.worlds; made++) worlds.push(await makeWorld());
    await Promise.all(worlds.map(play));
  } finally {
    await Promise.all(worlds.map(world => world.remove()));
  }
  return tally.contest();
}

class Player {
  private readonly world: World;
  private readonly judge: Judge;
  private readonly forbidden = new Map<string, { seed: number; rules: string }>();
  private rounds = 0;
  constructor(world: World, judge: Judge) {
    this.world = world;
    this.judge = judge;
  }

  async play(ruleset: FuzzRuleset, patienceMs?: number): Promise<Round> {
    const number = this.rounds++;
    const round = await playRound(this.world, ruleset, { judge: this.judge, number, ...(patienceMs === undefined ? {} : { patienceMs }) });
    for (const [name, rules] of round.forbidden) this.forbidden.set(name, { seed: ruleset.seed, rules });
    return round;
  }

  /** Requests that were judged blocked and arrived all the same, perhaps rounds later. */
  late(round: Round, scene: Scene): Contradiction[] {
    return round.arrived.flatMap(name => {
      const known = this.forbidden.get(name);
      if (!known) return [];
      const ruleset = known.seed === round.ruleset.seed ? round.ruleset : generate(known.seed, scene);
      return [{ ruleset, what: `${name} was judged blocked by ${known.rules}, and arrived` }];
    });
  }

  /** Takes away what can be taken away while the same answer is contradicted for the same kind of packet. */
  async shrink(ruleset: FuzzRuleset, wrong: Asked, rounds: number): Promise<Contradiction> {
    let smallest = ruleset;
    let shown = wrong;
    for (let left = rounds, again = true; again; ) {
      again = false;
      for (const candidate of smaller(smallest)) {
        if (left-- <= 0) break;
        const { asked } = await this.play(candidate, SHRINK_PATIENCE_MS);
        const still = asked.find(one => contradicts(one) && one.answer === wrong.answer && one.live === wrong.live);
        if (!still) continue;
        [smallest, shown, again] = [candidate, still, true];
        break;
      }
    }
    return { ruleset: smallest, what: describe(shown) };
  }
}

const SHRINK_PATIENCE_MS = 300;

function describe({ about, live, answer, served, silent }: Asked): string {
  const names = (pods: Asked['served']): string => pods.map(pod => `${pod.interface} (${pod.address})`).join(', ') || 'nobody';
  return `${answer} for ${about}, ${live ? 'a live connection' : 'a new connection'}; answered: ${names(served)}; not answered: ${names(silent)}`;
}

class Tally {
  readonly contradictions: Contradiction[] = [];
  private rulesets = 0;
  private wideBlocked = 0;
  private readonly refused: { seed: number; output: string }[] = [];
  private readonly answers = { blocked: 0, open: 0, unknown: 0 };
  private readonly decidable = { asked: 0, unknown: 0 };
  private readonly reasons = new Map<string, number>();

  add({ ruleset, refused, asked }: Round): void {
    this.rulesets++;
    if (refused !== undefined) this.refused.push({ seed: ruleset.seed, output: refused });
    for (const { about, answer, because } of asked) {
      if (about !== 'pod') {
        if (answer === 'blocked') this.wideBlocked++;
        continue;
      }
      this.answers[answer]++;
      if (answer === 'unknown') this.reasons.set(because, (this.reasons.get(because) ?? 0) + 1);
      if (!ruleset.decidable) continue;
      this.decidable.asked++;
      if (answer === 'unknown') this.decidable.unknown++;
    }
  }

  contest(): Contest {
    const { rulesets, refused, answers, decidable, wideBlocked, contradictions } = this;
    const reasons = new Map([...this.reasons].sort(([, a], [, b]) => b - a));
    return { rulesets, refused, answers, decidable, reasons, wideBlocked, contradictions };
  }
}
