/**
 * Text for a terminal or a picture. A comment in a rule is written by strangers: what has no shape of its own (escape
 * sequences; bidi overrides, which would show a rule other than it is; marks that pile up) is shown as `\x1b`, `\u{202e}`.
 */
export const visible = (text: string): string =>
  text.replace(SHAPELESS, (mark) => {
    const code = mark.codePointAt(0)!.toString(16);
    return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u{${code}}`;
  });

const SHAPELESS = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\p{M}\u{fffe}\u{ffff}]/gu;
