import type { Action } from '../trace/program.ts';
import { depends } from './doubt.ts';
import { member, nameOf } from './json.ts';
import { type MarkTerm, readMarkTerm } from './mark-arithmetic.ts';
import { mapNeeds } from './map-needs.ts';
import { needsOf } from './needs.ts';
import { type Step, ask, perform } from './step.ts';
import type { Surroundings } from './surroundings.ts';
import { statementWords } from './words.ts';

/** `{"mangle": {"key": …, "value": …}}`, written `meta mark set …`. */
export function readMangle(statement: unknown, around: Surroundings): Step[] {
  const body = member(statement, 'mangle');
  const key = member(body, 'key');
  const value = member(body, 'value');
  const on = readMarkTerm(key)?.from;
  const needs = ask(...needsOf(value, around), ...mapNeeds(value, around));
  if (on !== undefined) return [...needs, ...setMark(on, value, around)];
  const needed = [...needs, ...ask(...needsOf(nameOf(key) === 'payload' ? key : undefined, around))];
  if (isHarmless(key)) return needed;
  return [...needed, ...perform({ do: 'unread', why: `\`${statementWords(statement)}\` rewrites the packet` })];
}

function setMark(on: 'mark' | 'connmark', value: unknown, around: Surroundings): Step[] {
  const term = readMarkTerm(value);
  if (!term) return perform({ do: 'blur', on });
  if (around.conntrack === 'unordered' && (on === 'connmark' || term.from === 'connmark')) {
    // Without a connection `ct mark set` does nothing and `meta mark set ct mark` ends the rule (nft_ct.c).
    return [...(on === 'mark' ? ask(depends('whether conntrack comes before this chain')) : []), ...perform({ do: 'blur', on })];
  }
  return markActs(on, term).flatMap(perform);
}

function markActs(on: 'mark' | 'connmark', { from, keep, flip }: MarkTerm): Action[] {
  if (from === undefined) return [{ do: 'xmark', on, value: flip, mask: 0xffffffff }];
  if (from === on) return [{ do: 'xmark', on, value: flip, mask: ~keep >>> 0 }];
  const copy: Action = { do: 'copy-mark', to: on, toMask: 0xffffffff, fromMask: keep };
  return flip === 0 ? [copy] : [copy, { do: 'xmark', on, value: flip, mask: 0 }];
}

/** What may be written into a packet without changing where it goes or what later rules can see of it. */
const HARMLESS_FIELDS = new Set(['dscp', 'ecn', 'ttl', 'hoplimit', 'flowlabel', 'checksum', 'id']);
const HARMLESS_META = new Set(['priority', 'nftrace', 'pkttype', 'secmark']);

function isHarmless(key: unknown): boolean {
  const body = member(key, nameOf(key) ?? '');
  switch (nameOf(key)) {
    case 'meta':
      return HARMLESS_META.has(String(member(body, 'key')));
    case 'ct':
    case 'tcp option':
      return true;
    case 'payload':
      return HARMLESS_FIELDS.has(String(member(body, 'field')));
    default:
      return false;
  }
}
