/**
 * Sets of interface names, as `-i` and `-o` speak of them: one name (`eni0`), or every name with a prefix (`eni+`),
 * less some exceptions of the same two forms. The kernel compares at most 15 bytes (IFNAMSIZ 16, linux/if.h).
 */
export interface NamePattern {
  readonly prefix: string;
  /** Every name that begins so; otherwise the one name that is so. */
  readonly open: boolean;
}
export interface NameSet extends NamePattern {
  readonly except: readonly NamePattern[];
}

export const IFNAME_MAX_BYTES = 15;

export const ANY_NAME: NameSet = { prefix: '', open: true, except: [] };

/** `eni+` is every name that begins with eni; a `+` anywhere else, and alone it is every name (iptables(8), -i). */
export function namePattern(text: string): NamePattern {
  return text.endsWith('+') ? { prefix: text.slice(0, -1), open: true } : { prefix: text, open: false };
}

export const nameSet = (text: string): NameSet => ({ ...namePattern(text), except: [] });

export const patternText = (pattern: NamePattern): string => (pattern.open ? `${pattern.prefix}+` : pattern.prefix);

/** Whether every name of `inner` is a name of `outer`. */
export const patternCovers = (outer: NamePattern, inner: NamePattern): boolean =>
  outer.open ? inner.prefix.startsWith(outer.prefix) : !inner.open && inner.prefix === outer.prefix;

/** The names of `set` that `pattern` takes, or undefined when there are none. `set` itself when it takes all. */
export function intersectNames(set: NameSet, pattern: NamePattern): NameSet | undefined {
  if (patternCovers(pattern, set)) return set;
  if (!patternCovers(set, pattern)) return undefined;
  return withoutCovered(pattern, set.except);
}

/** The names of `set` that `pattern` leaves, or undefined when there are none. `set` itself when it takes none. */
export function subtractNames(set: NameSet, pattern: NamePattern): NameSet | undefined {
  if (patternCovers(pattern, set)) return undefined;
  if (!patternCovers(set, pattern) || set.except.some((known) => patternCovers(known, pattern))) return set;
  return { ...set, except: [...set.except.filter((known) => !patternCovers(pattern, known)), pattern] };
}

export const hasName = (set: NameSet, name: string): boolean =>
  patternCovers(set, { prefix: name, open: false }) && !set.except.some((known) => patternCovers(known, { prefix: name, open: false }));

/** One name of the set: the first wanted one that is in it, else the shortest of a simple series. */
export function pickName(set: NameSet, wanted: readonly string[]): string | undefined {
  if (!set.open) return hasName(set, set.prefix) ? set.prefix : undefined;
  const found = wanted.find((name) => hasName(set, name));
  if (found !== undefined) return found;
  for (let number = 0; number < set.except.length + 2; number++) {
    const name = `${set.prefix}${number}`.slice(0, IFNAME_MAX_BYTES);
    if (hasName(set, name)) return name;
  }
  for (const letter of 'abcdefghijklmnopqrstuvwxyz') {
    const name = `${set.prefix}${letter}`.slice(0, IFNAME_MAX_BYTES);
    if (hasName(set, name)) return name;
  }
  return undefined;
}

/** The pattern less those exceptions that touch it, or undefined when one of them covers it. */
function withoutCovered(pattern: NamePattern, except: readonly NamePattern[]): NameSet | undefined {
  if (except.some((known) => patternCovers(known, pattern))) return undefined;
  return { ...pattern, except: except.filter((known) => patternCovers(pattern, known)) };
}
