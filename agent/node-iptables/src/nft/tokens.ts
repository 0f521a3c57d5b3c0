/** A word of nft's own language. */
export interface Token {
  readonly text: string;
  readonly quoted: boolean;
  /** From 1. */
  readonly line: number;
  /** Whether it stands close to the one before. */
  readonly close: boolean;
}

/** `#` and what follows on the line. nft writes handles so (`-a`) and, before 1.0.3, matches of iptables it cannot name. */
export const isNote = (token: Token): boolean => !token.quoted && token.text.startsWith('#');
export const isNewline = (token: Token): boolean => !token.quoted && token.text === '\n';

const ALONE = '{}();,|&^';

/** Words, quoted strings (nft knows no escapes in them), signs that stand alone, line ends. Never throws. */
export function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let last = -1;
  for (let at = 0; at < text.length; ) {
    if (text[at] !== '\n' && /\s/.test(text[at]!)) {
      at++;
      continue;
    }
    const end = endOf(text, at);
    const quoted = text[at] === '"';
    const inside = quoted ? text.slice(at + 1, end).replace(/"$/, '') : text[at] === '#' ? text.slice(at, end).trim() : text.slice(at, end);
    tokens.push({ text: inside, quoted, line, close: at === last });
    for (let char = at; char < end; char++) if (text[char] === '\n') line++;
    at = last = end;
  }
  return tokens;
}

/** Where the token that begins here ends. */
function endOf(text: string, at: number): number {
  const char = text[at]!;
  const upTo = (sign: string, plus: number): number => {
    const found = text.indexOf(sign, at + 1);
    return found < 0 ? text.length : found + plus;
  };
  if (char === '"') return upTo('"', 1);
  if (char === '#') return upTo('\n', 0);
  if (char === '\n' || ALONE.includes(char)) return at + 1;
  let end = at + 1;
  while (end < text.length && !/\s/.test(text[end]!) && text[end] !== '"' && !ALONE.includes(text[end]!)) end++;
  return end;
}

/** As they stood, on one line. */
export const wordsOf = (tokens: readonly Token[]): string =>
  tokens
    .filter((token) => !isNewline(token))
    .map((token, at) => `${at === 0 || token.close ? '' : ' '}${token.quoted ? `"${token.text}"` : token.text}`)
    .join('');

const DEEPEST = 32;

/** Reads tokens from the left; what a reader cannot use it gives back with `goBack`. */
export class Cursor {
  private readonly tokens: readonly Token[];
  at = 0;
  constructor(tokens: readonly Token[]) {
    this.tokens = tokens;
  }

  get done(): boolean {
    return this.at >= this.tokens.length;
  }

  peek(ahead = 0): Token | undefined {
    return this.tokens[this.at + ahead];
  }

  /** Whether the next token is this word, unquoted. */
  is(text: string, ahead = 0): boolean {
    const token = this.peek(ahead);
    return token !== undefined && !token.quoted && token.text === text;
  }

  next(): Token | undefined {
    return this.tokens[this.at++];
  }

  /** Takes the word if it is next. */
  take(text: string): boolean {
    if (!this.is(text)) return false;
    this.at++;
    return true;
  }

  /** The next word when it is one of these, taken. */
  takeOne(texts: readonly string[] | ReadonlySet<string>): string | undefined {
    const token = this.peek();
    if (!token || token.quoted || !new Set(texts).has(token.text)) return undefined;
    this.at++;
    return token.text;
  }

  /** A name or string, not a sign that stands alone. */
  word(): string | undefined {
    const token = this.peek();
    if (!token || (!token.quoted && (ALONE.includes(token.text) || token.text === '\n'))) return undefined;
    this.at++;
    return token.text;
  }

  slice(from: number, to = this.at): readonly Token[] {
    return this.tokens.slice(from, to);
  }

  /** Everything that is left. */
  rest(): readonly Token[] {
    const rest = this.tokens.slice(this.at);
    this.at = this.tokens.length;
    return rest;
  }

  private depth = 0;
  /** Like `attempt`; brackets in brackets end somewhere, whatever the text. */
  deeper<T>(read: (cursor: Cursor) => T | undefined): T | undefined {
    if (this.depth >= DEEPEST) return undefined;
    this.depth++;
    const value = this.attempt(read);
    this.depth--;
    return value;
  }

  /** What `read` makes of the next tokens; when that is undefined, nothing is taken. */
  attempt<T>(read: (cursor: Cursor) => T | undefined): T | undefined {
    const from = this.at;
    const value = read(this);
    if (value === undefined) this.at = from;
    return value;
  }
}
