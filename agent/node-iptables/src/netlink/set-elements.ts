import { DATA_VALUE, DESCRIPTION, ELEMENT, ELEMENTS, SET } from './batch.ts';
import { type Counted, countedBy, expressionOf } from './expression.ts';
import { type Message, attributesOf, eachAttribute, longOf, numberOf, textOf } from './message.ts';
import { NFGENMSG } from './nf-tables.ts';

/** A set as a dump tells it, its elements apart. */
export interface SetState {
  readonly table: string;
  readonly name: string;
  /** How many elements it can hold; undefined where there is no bound. */
  readonly size: number | undefined;
  /** How long an element stays that says nothing else; undefined for ever. */
  readonly timeoutMs: number | undefined;
}

export function readSet({ body }: Message): SetState {
  const attributes = attributesOf(body, NFGENMSG);
  return {
    table: textOf(attributes.get(SET.TABLE)),
    name: textOf(attributes.get(SET.NAME)),
    size: numberOf(attributesOf(attributes.get(SET.DESCRIPTION) ?? NOTHING).get(DESCRIPTION.SIZE)),
    timeoutMs: msOf(attributes.get(SET.TIMEOUT)),
  };
}

/** What a rule has put into a set. */
export interface SetElement {
  /** Each part of the key fills up to a multiple of four bytes. */
  readonly key: Buffer;
  /** By its counter; undefined where it has none. */
  readonly counted: Counted | undefined;
  /** Undefined where it is the set's own. */
  readonly timeoutMs: number | undefined;
  /** In how long it goes. */
  readonly expiresMs: number | undefined;
}

/** One message of the list of a set's elements. The keys are parts of the message, and only valid as long as it is. */
export function readElements({ body }: Message): SetElement[] {
  const out: SetElement[] = [];
  eachAttribute(attributesOf(body, NFGENMSG).get(ELEMENTS.LIST) ?? NOTHING, 0, (_, element) => {
    const parts = attributesOf(element);
    const key = attributesOf(parts.get(ELEMENT.KEY) ?? NOTHING).get(DATA_VALUE);
    if (!key) return;
    const counted = parts.get(ELEMENT.EXPRESSION);
    out.push({ key, counted: counted && countedBy(expressionOf(counted)), timeoutMs: msOf(parts.get(ELEMENT.TIMEOUT)), expiresMs: msOf(parts.get(ELEMENT.EXPIRATION)) });
  });
  return out;
}

const NOTHING = Buffer.alloc(0);
function msOf(value: Buffer | undefined): number | undefined {
  const ms = longOf(value);
  return ms === undefined ? undefined : Number(ms);
}
