import type { Action } from '../trace/program.ts';
import { depends, unreadTest } from './doubt.ts';
import { member, nameOf, textOf } from './json.ts';
import { familyNeeded } from './read-field.ts';
import { readMangle } from './read-mangle.ts';
import { readMatch } from './read-match.ts';
import { readTranslation } from './read-translation.ts';
import { readVerdict } from './read-verdict.ts';
import { readVerdictMap } from './read-verdict-map.ts';
import { needsOf } from './needs.ts';
import { type Step, ask, end, perform } from './step.ts';
import type { Surroundings } from './surroundings.ts';
import { statementWords } from './words.ts';

/** One statement of libnftables-json(5). One that nobody here knows may do anything, and may as well end the rule. */
export function readStatement(statement: unknown, around: Surroundings): Step[] {
  const name = nameOf(statement);
  const body = member(statement, name ?? '');
  const verdict = readVerdict(statement);
  if (verdict) return verdict.do === 'nothing' ? [] : end(verdict);
  switch (name) {
    case 'match':
      return ask(readMatch(statement, around));
    case 'vmap':
      return readVerdictMap(statement, around);
    case 'mangle':
      return readMangle(statement, around);
    case 'dnat':
    case 'redirect':
    case 'tproxy':
    case 'snat':
    case 'masquerade':
      return readTranslation(statement, around);
    case 'reject':
      // nft asks for the family before `reject with icmp …`, and its listing leaves the question out.
      return [...ask(...familyNeeded(textOf(member(body, 'type')), around)), ...end({ do: 'drop', how: statementWords(statement) })];
    case 'notrack':
      return perform({ do: 'notrack' });
    case 'counter':
    case 'log':
    case 'comment':
    case 'last':
    case 'secmark':
    case 'ct helper':
    case 'ct timeout':
    case 'ct expectation':
      return [];
    case 'limit':
    case 'quota':
    case 'ct count':
      return ask(depends(`\`${statementWords(statement)}\``));
    case 'set':
    case 'map':
      return [...ask(...needsOf(body, around)), ...readSetUpdate(body, name)];
    case 'meter':
      return ask(...needsOf(body, around), depends('the rate of a meter'));
    case 'flow':
      // NFT_BREAK where the connection cannot be offloaded (nft_flow_offload.c).
      return ask(depends('whether the connection can be offloaded'));
    case 'queue':
      return end(unknownAct(statement, 'leaves the packet to a program'));
    case 'synproxy':
    case 'fwd':
      return end(unknownAct(statement, 'takes the packet away'));
    case 'dup':
      return perform(unknownAct(statement, 'sends a copy elsewhere'));
    case 'xt':
      return readCompatible(statement, body);
    default:
      return anything(statement);
  }
}

const unknownAct = (statement: unknown, what: string): Action => ({ do: 'unread', why: `\`${statementWords(statement)}\` ${what}` });

function anything(statement: unknown): Step[] {
  const unread = unreadTest(statementWords(statement));
  return [...ask(unread), ...perform({ do: 'unread', why: unread.is === 'maybe' ? unread.why : '' })];
}

/**
 * `{"xt": {"type": "match", "name": "comment"}}`: an extension of iptables, without its options. A comment asks nothing
 * (xt_comment.c: comment_mt returns true).
 */
function readCompatible(statement: unknown, body: unknown): Step[] {
  if (member(body, 'type') !== 'match') return anything(statement);
  return member(body, 'name') === 'comment' ? [] : ask(unreadTest(statementWords(statement)));
}

/** A full set ends the rule before what follows (nft_dynset_eval: NFT_BREAK), so the rest is not certain to happen. */
const readSetUpdate = (body: unknown, kind: 'set' | 'map'): Step[] =>
  member(body, 'op') === 'delete' ? [] : ask(depends(`room in the set ${String(member(body, kind)).replace(/^@/, '')}`));
