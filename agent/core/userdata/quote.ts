/** One word for a POSIX shell, whatever is in it. */
export const shellWord = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** A here-document of the shell's, nothing in it expanded, and what follows it on its line; throws where the text holds its end. */
export function hereDocument(end: string, text: string, then = ''): string {
  if (text.split('\n').includes(end)) throw new RangeError(`the text holds a line ${end}`);
  return `<<'${end}'${then}\n${text}${text.endsWith('\n') ? '' : '\n'}${end}`;
}

/** Lines below `key: |` of YAML. Empty lines stay empty. */
export const indented = (text: string, spaces: number): string => text.replace(/^(?=.)/gm, ' '.repeat(spaces));
