import { Draft, type DraftChain, tableFlags } from './draft.ts';
import { type JsonObject, isObject, listOf, member, nameOf, textOf, textsOf } from './json.ts';
import { NFT_FAMILIES, type NftFamily, type NftRule, type NftRuleset } from './model.ts';
import { ruleWords } from './words.ts';

/**
 * Reads what `nft -j list ruleset`, `nft -j list table …` and `nft -j list chains` print (libnftables-json(5)); several
 * answers, one after another, are one ruleset. Never throws: what is no JSON or has no known place is in `unread`,
 * what a rule says that nobody knows stays among its expressions.
 */
export function parseNftJson(text: string): NftRuleset {
  const draft = new Draft();
  for (const document of documentsOf(text)) {
    const entries = member(document.parsed, 'nftables');
    if (!Array.isArray(entries)) {
      draft.unread.push({ line: document.line, text: shortened(document.text), because: 'not a JSON answer of nft' });
      continue;
    }
    for (const entry of entries) {
      const because = readEntry(draft, entry);
      if (because !== undefined) draft.unread.push({ line: document.line, text: jsonText(entry), because });
    }
  }
  return draft.done();
}

/** Objects that change no packet by themselves; a rule that uses one names it. */
const STANDS_ALONE = new Set([
  'metainfo', 'counter', 'quota', 'limit', 'ct helper', 'ct timeout', 'ct expectation', 'synproxy', 'secmark', 'tunnel',
]);

/** Why the entry could not be placed, or undefined. */
function readEntry(draft: Draft, entry: unknown): string | undefined {
  const kind = nameOf(entry);
  if (kind === undefined) return 'not an object of nft';
  const body = member(entry, kind);
  if (kind === 'metainfo') draft.tellsFlags = isSince110(textOf(member(body, 'version')));
  if (STANDS_ALONE.has(kind)) return undefined;
  if (!isObject(body)) return `a ${kind} without a body`;
  const family = NFT_FAMILIES.find((known) => known === body['family']);
  if (family === undefined) return `a ${kind} of no known family`;
  switch (kind) {
    case 'table':
      return readTable(draft, family, body);
    case 'chain':
      return readChain(draft, family, body);
    case 'rule':
      return readRule(draft, family, body);
    case 'set':
    case 'map':
      return readSet(draft, family, body, kind);
    case 'flowtable':
      return readFlowtable(draft, family, body);
    default:
      return `no known object: ${kind}`;
  }
}

function readTable(draft: Draft, family: NftFamily, body: JsonObject): string | undefined {
  const name = textOf(body['name']);
  if (name === undefined) return 'a table without a name';
  const flags = body['flags'];
  Object.assign(draft.table(family, name), typeof flags === 'string' && !draft.tellsFlags ? tableFlags(undefined) : tableFlags(listOf(flags).map(String)));
  return undefined;
}

/** "json: fix use after free in table_flags_json()", nft 1.1.0: before it a flag that stands alone may be any text. */
function isSince110(version: string | undefined): boolean {
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number);
  return major > 1 || (major === 1 && minor >= 1);
}

/** `{"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}` */
function readChain(draft: Draft, family: NftFamily, body: JsonObject): string | undefined {
  const table = textOf(body['table']);
  const name = textOf(body['name']);
  if (table === undefined || name === undefined) return 'a chain without a name';
  const chain = draft.table(family, table).chain(name);
  chain.type = textOf(body['type']) ?? chain.type;
  chain.hook = textOf(body['hook']) ?? chain.hook;
  chain.policy = textOf(body['policy']) ?? chain.policy;
  if (typeof body['prio'] === 'number') chain.priority = body['prio'];
  const devices = textsOf(body['dev']);
  if (devices.length > 0) chain.devices = devices;
  return undefined;
}

function readRule(draft: Draft, family: NftFamily, body: JsonObject): string | undefined {
  const table = textOf(body['table']);
  const name = textOf(body['chain']);
  if (table === undefined || name === undefined) return 'a rule of no chain';
  const chain = draft.table(family, table).chain(name);
  if (listedAlready(chain, body['handle'])) return undefined;
  const expressions = Array.isArray(body['expr']) && isShallow(body['expr']) ? body['expr'] : [{ unread: jsonText(body) }];
  chain.rules.push(lazyRule(name, expressions, textOf(body['comment'])));
  return undefined;
}

function listedAlready(chain: DraftChain, handle: unknown): boolean {
  if (typeof handle !== 'number') return false;
  if (chain.handles.has(handle)) return true;
  chain.handles.add(handle);
  return false;
}

/** The words are made when somebody wants to see them: of fifty thousand rules few are ever shown. */
function lazyRule(chain: string, expressions: readonly unknown[], comment: string | undefined): NftRule {
  let text: string | undefined;
  return { chain, expressions, comment, get text() { return (text ??= ruleWords(expressions, comment)); } };
}

function readSet(draft: Draft, family: NftFamily, body: JsonObject, kind: 'set' | 'map'): string | undefined {
  const table = textOf(body['table']);
  const name = textOf(body['name']);
  if (table === undefined || name === undefined) return `a ${kind} without a name`;
  const flags = textsOf(body['flags']);
  const readable = isShallow(body['elem']);
  draft.table(family, table).sets.set(name, {
    name,
    kind,
    keyType: textsOf(body['type']).join(' . '),
    dataType: kind === 'map' ? textsOf(body['map']).join(' . ') : undefined,
    flags,
    hasTimeout: flags.includes('timeout') || body['timeout'] !== undefined,
    hasConditions: listOf(body['stmt']).some((statement) => nameOf(statement) !== 'counter' && nameOf(statement) !== 'last'),
    elements: readable ? listOf(body['elem']) : [],
    unread: readable ? [] : ['elements nested too deeply'],
  });
  return undefined;
}

/** `{"flowtable": {"family": "inet", "name": "ft", "table": "t", "handle": 9, "hook": "ingress", "prio": 0, "dev": ["eth0", "lo"]}}` */
function readFlowtable(draft: Draft, family: NftFamily, body: JsonObject): string | undefined {
  const table = textOf(body['table']);
  const name = textOf(body['name']);
  if (table === undefined || name === undefined) return 'a flowtable without a name';
  draft.table(family, table).flowtables.set(name, { name, devices: textsOf(body['dev']) });
  return undefined;
}

interface Document {
  readonly line: number;
  readonly text: string;
  readonly parsed: unknown;
}

/** nft writes an answer on one line; a person may have laid it out over several. */
function documentsOf(text: string): Document[] {
  const documents: Document[] = [];
  const lines = text.split('\n');
  for (const [at, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const parsed = /^\s*\{.*\}\s*$/.test(line) ? parsedOrUndefined(line) : undefined;
    if (parsed === undefined) return [...documents, ...laidOut(lines.slice(at).join('\n'), at + 1)];
    documents.push({ line: at + 1, text: line, parsed });
  }
  return documents;
}

/** Cuts at the brackets, as strings allow; what is left over is a document too, and no JSON. */
function laidOut(text: string, line: number): Document[] {
  const documents: Document[] = [];
  let depth = 0;
  let from = 0;
  let quoted = false;
  const cut = (to: number): void => {
    const part = text.slice(from, to);
    if (part.trim() !== '') documents.push({ line: line + newlines(text, from), text: part.trim(), parsed: parsedOrUndefined(part) });
    from = to;
  };
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (quoted) {
      if (char === '\\') at++;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === '{' || char === '[') depth++;
    else if ((char === '}' || char === ']') && --depth === 0) cut(at + 1);
  }
  cut(text.length);
  return documents;
}

const newlines = (text: string, below: number): number => text.slice(0, below).split('\n').length - 1;

function parsedOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

const shortened = (text: string): string => (text.length > 300 ? `${text.slice(0, 300)}…` : text);

function jsonText(value: unknown): string {
  try {
    return shortened(JSON.stringify(value));
  } catch {
    return 'JSON nested too deeply';
  }
}

/** No statement of nft nests deeper; whoever reads one may then call itself for every level. */
const DEEPEST = 32;
const isShallow = (value: unknown, depth = 0): boolean =>
  typeof value !== 'object' || value === null || (depth < DEEPEST && Object.values(value).every((part) => isShallow(part, depth + 1)));
