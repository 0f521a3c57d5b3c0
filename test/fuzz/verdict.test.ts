// The verdict against the kernel: random rulesets are loaded on a node, packets are sent from pods, and what `judge` said
// beforehand must come true: `blocked` never answers, `open` always does.
//
//   make fuzz RUNS=20000 SEED=7      more of them
//   make fuzz RUNS=1 SEED=1234567    one again: each ruleset has a seed of its own, the first one's plus its number
import t from 'tap';
import { judge } from '../../agent/node-iptables/src/trace/conversation.ts';
import { type Contest, holdContest } from './contest.ts';
import type { Judge } from './round.ts';
import { rulesetText } from './ruleset.ts';

const runs = Number(process.env['RUNS'] || 2000);
const seed = Number(process.env['SEED'] || 20_260_101);
/** Half of a round is waiting, so more worlds than processors. */
const WORLDS = 4;

t.setTimeout(120_000 + runs * 200);

t.test(`${runs} rulesets from seed ${seed}: what the judge says comes true`, async t => {
  t.setTimeout(120_000 + runs * 200);
  const startedMs = performance.now();
  const contest = await holdContest({ seed, runs, judge, worlds: Math.min(WORLDS, runs), shrinkRounds: 200 });
  tell(figures(contest, performance.now() - startedMs));

  for (const { ruleset, what } of contest.contradictions) {
    t.fail(`seed ${ruleset.seed}: ${what}`, { again: `make fuzz RUNS=1 SEED=${ruleset.seed}`, ruleset: rulesetText(ruleset).split('\n') });
  }
  t.equal(contest.contradictions.length, 0, 'no contradictions');
  t.equal(contest.rulesets, runs);
  t.same(contest.refused, [], 'the kernel takes every ruleset');
  // Of a few rulesets nothing can be said in percent.
  if (runs < 200) return;
  const asked = sum(contest);
  t.ok(contest.answers.blocked >= asked / 5, 'blocked is common');
  t.ok(contest.answers.open >= asked / 5, 'open is common');
  t.ok(contest.decidable.unknown < contest.decidable.asked / 20, 'where every match is known, less than 5 % stay unknown');
});

t.test('a judge that always says blocked, or always open, is contradicted', async t => {
  const blocked: Judge = () => ({ answer: 'blocked', proof: [], entered: undefined });
  const open: Judge = () => ({
    answer: 'open',
    packet: { in: '', out: '', source: '', destination: '', protocol: 6, sourcePort: 0, destinationPort: 0, state: '', mark: '' },
    trace: { stops: [], fate: { is: 'passed' }, doubtful: false },
  });
  for (const [answer, judge] of [['blocked', blocked], ['open', open]] as const) {
    const { contradictions } = await holdContest({ seed, runs: 12, judge, worlds: 1, shrinkRounds: 8, patienceMs: 300 });
    t.ok(contradictions.length > 0, `always ${answer}`);
    t.ok(contradictions.every(({ what }) => what.startsWith(answer)), 'each contradicts that answer');
  }
});

/** The runner keeps what tests write to their output; figures are for people. */
function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

function figures({ rulesets, answers, decidable, reasons, wideBlocked, contradictions }: Contest, tookMs: number): string {
  const asked = sum({ answers });
  const share = (part: number, of: number): string => `${((100 * part) / Math.max(1, of)).toFixed(1)} %`;
  return [
    `    ${rulesets} rulesets from seed ${seed}, ${(tookMs / 1000).toFixed(0)} s: ${contradictions.length} contradictions in ${asked} questions about one pod`,
    `    blocked ${share(answers.blocked, asked)}, open ${share(answers.open, asked)}, unknown ${share(answers.unknown, asked)};` +
      ` where every match is known, unknown ${share(decidable.unknown, decidable.asked)}; ${wideBlocked} times blocked for a whole class of pods`,
    `    unknown because: ${[...reasons].slice(0, 8).map(([reason, times]) => `${reason} (${times})`).join('; ')}`,
  ].join('\n');
}

function sum({ answers }: Pick<Contest, 'answers'>): number {
  return answers.blocked + answers.open + answers.unknown;
}
