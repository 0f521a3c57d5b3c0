// A random ruleset as a value: cut into rules, so that a failing one can be made smaller.

export interface FuzzRuleset {
  readonly seed: number;
  /** Tables for iptables-nft-restore and for iptables-legacy-restore; an empty list: the backend is not used. */
  readonly nft: readonly FuzzTable[];
  readonly legacy: readonly FuzzTable[];
  readonly native: readonly FuzzTable[];
  /** Whether every match is one whose outcome the ruleset shows: no rates, no chances, no masks with holes. */
  readonly decidable: boolean;
}

export interface FuzzTable {
  /** For a native table with its family: `inet fuzz0`. */
  readonly name: string;
  readonly chains: readonly FuzzChain[];
}

export interface FuzzChain {
  readonly name: string;
  /** `ACCEPT` or `DROP` for a chain of the kernel's, `-` for another; native: the whole `type … policy …;` line, or ''. */
  readonly policy: string;
  /** Without `-A CHAIN`. */
  readonly rules: readonly string[];
}

export const BACKENDS = ['nft', 'legacy', 'native'] as const;

/** For `iptables-restore`. */
export const restoreText = (tables: readonly FuzzTable[]): string =>
  tables
    .map(table =>
      [
        `*${table.name}`,
        ...table.chains.map(({ name, policy }) => `:${name} ${policy} [0:0]`),
        ...table.chains.flatMap(({ name, rules }) => rules.map(rule => `-A ${name} ${rule}`.trimEnd())),
        'COMMIT\n',
      ].join('\n'),
    )
    .join('');

/** For `nft -f -`, which adds every chain before the first rule. */
export const nftText = (tables: readonly FuzzTable[]): string =>
  tables
    .map(table => {
      const chain = ({ name, policy, rules }: FuzzChain): string =>
        [`  chain ${name} {`, ...(policy === '' ? [] : [`    ${policy}`]), ...rules.map(rule => `    ${rule}`), '  }'].join('\n');
      return `table ${table.name} {\n${table.chains.map(chain).join('\n')}\n}\n`;
    })
    .join('');

/** All of it, to be read by a person or fed back by hand. */
export const rulesetText = (ruleset: FuzzRuleset): string =>
  [
    ruleset.nft.length > 0 ? `# iptables-nft-restore\n${restoreText(ruleset.nft)}` : '',
    ruleset.legacy.length > 0 ? `# iptables-legacy-restore\n${restoreText(ruleset.legacy)}` : '',
    ruleset.native.length > 0 ? `# nft -f -\n${nftText(ruleset.native)}` : '',
  ].join('');

/** Every ruleset that has one thing less: a table, a rule, a policy that drops. Largest steps first. */
export function* smaller(ruleset: FuzzRuleset): Generator<FuzzRuleset> {
  for (const backend of BACKENDS) {
    for (const table of ruleset[backend]) yield { ...ruleset, [backend]: ruleset[backend].filter(other => other !== table) };
  }
  for (const backend of BACKENDS) {
    for (const table of ruleset[backend]) {
      const withChain = (chain: FuzzChain, changed: Partial<FuzzChain>): FuzzRuleset => ({
        ...ruleset,
        [backend]: ruleset[backend].map(other =>
          other === table ? { ...table, chains: table.chains.map(each => (each === chain ? { ...chain, ...changed } : each)) } : other,
        ),
      });
      for (const chain of table.chains) {
        if (chain.rules.length > 1) yield withChain(chain, { rules: [] });
        if (/drop/i.test(chain.policy)) yield withChain(chain, { policy: chain.policy.replace('DROP', 'ACCEPT').replace('policy drop', 'policy accept') });
      }
      for (const chain of table.chains) {
        for (const [at] of chain.rules.entries()) yield withChain(chain, { rules: chain.rules.filter((_, other) => other !== at) });
      }
    }
  }
}
