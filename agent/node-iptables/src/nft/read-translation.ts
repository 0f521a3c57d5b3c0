import { depends } from './doubt.ts';
import { member, nameOf, textOf } from './json.ts';
import { mapNeeds } from './map-needs.ts';
import { needsOf } from './needs.ts';
import { familyNeeded } from './read-field.ts';
import { type Step, ask, end, perform } from './step.ts';
import type { Surroundings } from './surroundings.ts';
import { statementWords } from './words.ts';

/** `{"dnat": {"family": "ip", "addr": "10.0.0.2", "port": 80}}` and its kind: the packet goes on to somebody else. */
export function readTranslation(statement: unknown, around: Surroundings): Step[] {
  const name = nameOf(statement);
  const body = member(statement, name ?? '');
  // In an inet table `dnat ip to` takes IPv4 only; nft asks for the family and does not list the question.
  const needs = ask(...familyNeeded(textOf(member(body, 'family')), around), ...needsOf(body, around), ...mapNeeds(body, around));
  if (name === 'snat' || name === 'masquerade') return [...needs, ...end({ do: 'accept', translates: 'source' })];
  const redirect = { do: 'redirect', to: statementWords(statement) } as const;
  // Without a listening socket the rule ends, and the packet goes on (net/netfilter/nft_tproxy.c: NFT_BREAK).
  if (name === 'tproxy') return [...needs, ...ask(depends('a listening socket of this node')), ...perform(redirect)];
  return [...needs, ...end(redirect)];
}
