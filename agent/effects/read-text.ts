import { readFileSync } from 'node:fs';

/** A small file of /proc or /etc, or nothing where there is none: for what is only there on some nodes. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
