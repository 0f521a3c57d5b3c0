/** A line of iptables-save as words, its quotes and escapes undone; or why it cannot be. */
export type Words =
  | { readonly words: readonly string[]; readonly quoted: ReadonlySet<number> | undefined }
  | { readonly broken: string };

const QUOTE = 34;
const BACKSLASH = 92;
const BLANK = 32;
const TAB = 9;

/**
 * Cuts a line at blanks. Inside double quotes a backslash makes the next character plain, as `iptables-restore` reads
 * it and `iptables-save` writes it (xtables_save_string escapes `"`, `\` and `'`).
 */
export function splitWords(line: string): Words {
  if (!line.includes('"') && !line.includes('\t')) return { words: line.split(' ').filter(isWord), quoted: undefined };
  const words: string[] = [];
  let quoted: Set<number> | undefined;
  for (let at = 0; at < line.length; ) {
    const code = line.charCodeAt(at);
    if (code === BLANK || code === TAB) {
      at++;
      continue;
    }
    let word = '';
    let inQuotes = false;
    let sawQuotes = false;
    for (; at < line.length; at++) {
      const here = line.charCodeAt(at);
      if (inQuotes && here === BACKSLASH && at + 1 < line.length) word += line[++at];
      else if (here === QUOTE) {
        inQuotes = !inQuotes;
        sawQuotes = true;
        if (inQuotes) continue;
        // The closing quote ends the word: `"a"-j` is two (iptables 1.8.9, xshared.c, add_param_to_argv).
        at++;
        break;
      } else if (!inQuotes && (here === BLANK || here === TAB)) break;
      else word += line[at];
    }
    if (inQuotes) return { broken: 'a quotation mark is not closed' };
    if (sawQuotes && looksLikeOption(word)) (quoted ??= new Set()).add(words.length);
    words.push(word);
  }
  return { words, quoted };
}

export const looksLikeOption = (word: string): boolean => word.length > 0 && (word[0] === '-' || word === '!');

/** A word as `xtables_save_string` prints it: bare when it is letters, digits, `_` and `-` only. */
export const quoteAsSaved = (word: string): string => (/^[A-Za-z0-9_-]+$/.test(word) ? word : quote(word));

/** A word that is quoted only where it would not survive bare. */
export const quoteWhereNeeded = (word: string): string => (word === '' || /[\s"\\]/.test(word) ? quote(word) : word);

export const quote = (word: string): string => `"${word.replace(/["\\']/g, '\\$&')}"`;

const isWord = (word: string): boolean => word !== '';
