import t from 'tap';
import { observedFromFiles } from '../../agent/core/from-files.ts';
import type { Observed } from '../../agent/core/observed.ts';
import { REASONS, worst } from '../../agent/core/reasons.ts';
import { DEFAULT_SETTINGS } from '../../agent/core/settings.ts';
import { npdLine } from '../../agent/core/text-report.ts';
import { verdict } from '../../agent/core/verdict.ts';
import { IMDS_DROP, dump } from './ask.ts';

const settings = { ...DEFAULT_SETTINGS, branchInterfaces: [] };
const blocked = observedFromFiles([{ name: 'saved', text: dump({ filter: IMDS_DROP }) }], { family: 'ipv4', backend: 'nft' });
const open = observedFromFiles([{ name: 'saved', text: dump({ filter: '' }) }], { family: 'ipv4', backend: 'nft' });
const judged = (observed: Observed): string => { const { answer, reason } = verdict(observed, settings); return `${answer} ${reason}`; };

t.test('the answer is the worst of the targets', async (t) => {
  t.same([worst([]), worst(['blocked']), worst(['blocked', 'unknown']), worst(['unknown', 'open', 'blocked'])], ['unknown', 'blocked', 'unknown', 'open']);
  t.same([judged(blocked), judged(open)], ['blocked EveryPacketDropped', 'open PacketPasses']);
  t.equal(judged({ ...blocked, families: [] }), 'unknown NothingToJudge', 'nothing was looked at, so nothing is known');
});

t.test('"no rules" and "could not look" are different answers', async (t) => {
  for (const reason of ['NotPermitted', 'NotInstalled', 'Busy', 'TimedOut', 'CouldNotLook', 'CannotRead'] as const)
    for (const observed of [blocked, open]) t.equal(judged({ ...observed, failures: [{ family: 'both', what: 'iptables-nft-save', reason, message: 'no' }] }), `unknown ${reason}`);
  t.equal(judged({ ...blocked, failures: [{ family: 'ipv6', what: 'ip6tables-nft-save', reason: 'Busy', message: 'no' }] }), 'blocked EveryPacketDropped', 'a failure of the other family');
});

t.test('a way past the rules keeps every drop from being a proof', async (t) => {
  t.equal(judged({ ...blocked, bypasses: ['flowtable inet f ft'] }), 'unknown MayBypassNetfilter');
  t.equal(judged({ ...open, bypasses: ['flowtable inet f ft'] }), 'open PacketPasses');
});

t.test('a mark that a program on the interface may set', async (t) => {
  const accepting = observedFromFiles([{ name: 'saved', text: dump({ filter: `-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT\n${IMDS_DROP}` }) }], { family: 'ipv4', backend: 'nft' });
  t.equal(judged(accepting), 'blocked EveryPacketDropped');
  t.notMatch(judged({ ...accepting, startMark: undefined }), /^blocked/);
});

t.test('native tables that could not be listed may untrack and mark, and undo no drop', async (t) => {
  t.equal(judged({ ...blocked, nft: undefined }), 'blocked EveryPacketDropped');
  t.notMatch(judged({ ...observedFromFiles([{ name: 'saved', text: dump({ filter: IMDS_DROP.replace('-j', '-m conntrack --ctstate NEW,ESTABLISHED -j') }) }], { family: 'ipv4' }), nft: undefined }), /^blocked/);
});

t.test('a pattern that was found on the node is judged too', async (t) => {
  const found = { ...blocked, patterns: [{ pattern: 'veth+', from: 'the CNI' }, { pattern: 'eni0', from: 'covered' }] };
  t.same(verdict(found, settings).targets.map(({ name, answer }) => `${name} ${answer}`), ['eni+ ipv4 blocked', 'veth+ ipv4 open']);
  t.same(verdict(found, { ...settings, discover: false }).targets.map(({ name }) => name), ['eni+ ipv4']);
});

t.test('reasons for node-problem-detector fit its line', async (t) => {
  for (const [reason, { answer: told }] of Object.entries(REASONS)) {
    const answer = told === 'open or unknown' ? 'unknown' : told;
    const line = npdLine({ ...verdict(open, settings), answer, reason: reason as keyof typeof REASONS, targets: verdict(open, { ...settings, interfaces: ['ééééé0+', 'ééééé1+', 'ééééé2+', 'ééééé3+'] }).targets.map((target) => ({ ...target, answer }) as never) });
    t.ok(Buffer.byteLength(line) <= 80 && line.startsWith(`${answer} ${reason}`) && line.endsWith('\n'), line);
  }
});
