/** A script for `nft -f`, as far as the fake knows the language: our own tables, and a rival's rule or flush. */
export type Statement =
  | { readonly do: 'add-table' | 'create-table' | 'delete-table'; readonly family: string; readonly table: string }
  | { readonly do: 'add-chain'; readonly family: string; readonly table: string; readonly chain: string; readonly hook: Hook | undefined }
  | { readonly do: 'add-set'; readonly family: string; readonly table: string; readonly set: NativeSet }
  | { readonly do: 'add-rule'; readonly family: string; readonly table: string; readonly chain: string; readonly words: readonly string[] }
  | { readonly do: 'flush-ruleset' };

/** `type filter hook forward priority -200; policy accept;` */
export interface Hook {
  readonly type: string;
  readonly hook: string;
  readonly prio: number;
  readonly policy: string;
}

/** `type ifname . ipv4_addr`, `size 1024`, `flags dynamic,timeout`, `timeout 1h`, `elements = { "eth0" }`. */
export interface NativeSet {
  readonly name: string;
  readonly type: readonly string[];
  readonly size: number | undefined;
  readonly flags: readonly string[];
  readonly timeoutHours: number | undefined;
  /** Names. No time passes here: none of them goes. */
  readonly elements: readonly string[];
}

/** The statements in order, a block taken apart into what it adds; or the words that the fake does not know. */
export function parseScript(script: string): readonly Statement[] | { readonly unknown: string } {
  const reader = new ScriptReader(script.match(TOKENS)?.filter((token) => !token.startsWith('#')) ?? []);
  try {
    return reader.read();
  } catch (error) {
    if (error instanceof Unknown) return { unknown: error.words };
    throw error;
  }
}

const TOKENS = /#[^\n]*|"[^"]*"|[{};\n]|[^\s{};"]+/g;

class Unknown extends Error {
  readonly words: string;
  constructor(words: string) {
    super(words);
    this.words = words;
  }
}

class ScriptReader {
  private at = 0;
  private readonly tokens: readonly string[];
  private readonly statements: Statement[] = [];

  constructor(tokens: readonly string[]) {
    this.tokens = tokens;
  }

  read(): readonly Statement[] {
    for (this.skipEnds(); this.at < this.tokens.length; this.skipEnds()) this.statement();
    return this.statements;
  }

  private statement(): void {
    const verb = this.tokens[this.at];
    const noun = this.tokens[this.at + 1];
    if (verb === 'table') return this.tableBlock();
    this.at += 2;
    if (verb === 'flush' && noun === 'ruleset') {
      this.statements.push({ do: 'flush-ruleset' });
      return;
    }
    if (noun === 'table' && (verb === 'add' || verb === 'create' || verb === 'delete')) {
      this.statements.push({ do: `${verb}-table`, family: this.word(), table: this.word() });
      return;
    }
    if (noun === 'chain' && verb === 'add') return this.chain(this.word(), this.word());
    if (noun !== 'rule' || verb !== 'add') throw new Unknown([verb, noun].join(' '));
    this.statements.push({ do: 'add-rule', family: this.word(), table: this.word(), chain: this.word(), words: this.restOfLine() });
  }

  private tableBlock(): void {
    this.at++;
    const [family, table] = [this.word(), this.word()];
    this.statements.push({ do: 'add-table', family, table });
    this.block(() => {
      const noun = this.word();
      if (noun === 'chain') this.chain(family, table);
      else if (noun === 'set') this.set(family, table);
      else throw new Unknown(noun);
    });
  }

  private set(family: string, table: string): void {
    let set: NativeSet = { name: this.word(), type: [], size: undefined, flags: [], timeoutHours: undefined, elements: [] };
    this.block(() => {
      const [what, ...words] = this.restOfLine();
      const value = words.join(' ');
      if (what === 'type') set = { ...set, type: value.split(' . ') };
      else if (what === 'flags') set = { ...set, flags: value.split(/ ?, ?/) };
      else if (what === 'size' && /^\d+$/.test(value)) set = { ...set, size: Number(value) };
      else if (what === 'timeout' && /^\d+h$/.test(value)) set = { ...set, timeoutHours: Number(value.slice(0, -1)) };
      else if (what === 'elements' && /^= \{( "[^"]*" ,?)+ ?\}$/.test(value)) set = { ...set, elements: [...value.matchAll(/"([^"]*)"/g)].map(([, name]) => name!) };
      else throw new Unknown([what, value].join(' '));
    });
    this.statements.push({ do: 'add-set', family, table, set });
  }

  private chain(family: string, table: string): void {
    const chain = this.word();
    let hook: Hook | undefined;
    const rules: (readonly string[])[] = [];
    if (this.tokens[this.at] === '{') {
      this.block(() => {
        const words = this.restOfLine();
        if (words[0] === 'type') hook = readHook(words);
        else if (words[0] === 'policy' && hook) hook = { ...hook, policy: words[1] ?? 'accept' };
        else rules.push(words);
      });
    }
    this.statements.push({ do: 'add-chain', family, table, chain, hook });
    for (const words of rules) this.statements.push({ do: 'add-rule', family, table, chain, words });
  }

  private block(item: () => void): void {
    if (this.word() !== '{') throw new Unknown('a block without {');
    for (this.skipEnds(); this.tokens[this.at] !== '}'; this.skipEnds()) item();
    this.at++;
  }

  private restOfLine(): readonly string[] {
    const words: string[] = [];
    for (let depth = 0; this.at < this.tokens.length; ) {
      const token = this.tokens[this.at]!;
      if (depth === 0 && /^[;\n}]$/.test(token)) break;
      if (token === '{') depth++;
      else if (token === '}') depth--;
      words.push(this.tokens[this.at++]!);
    }
    return words;
  }

  private skipEnds(): void {
    while (this.tokens[this.at] === ';' || this.tokens[this.at] === '\n') this.at++;
  }

  private word(): string {
    const word = this.tokens[this.at++];
    if (word === undefined) throw new Unknown('the end of the script');
    return word;
  }
}

function readHook(words: readonly string[]): Hook {
  const found = /^type (\w+) hook (\w+) priority (-?\d+)$/.exec(words.join(' '));
  if (!found) throw new Unknown(words.join(' '));
  return { type: found[1]!, hook: found[2]!, prio: Number(found[3]), policy: 'accept' };
}
