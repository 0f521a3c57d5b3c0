import { UsageError } from '../config.ts';
import type { FileHints } from '../core/from-files.ts';
import type { Observed } from '../core/observed.ts';
import type { Context } from './context.ts';

/** The node, or the files of --from in its place. */
export async function observed(context: Context): Promise<Observed> {
  const { values } = context;
  const files = values['from'] as readonly string[] | undefined;
  const hints = hintsFrom(context);
  if (files) return context.observeFiles(files, hints);
  const stray = ['from-backend', 'from-family', 'from-table', 'from-mark'].find((name) => values[name] !== undefined);
  if (stray) throw new UsageError(`--${stray} says something of a file: it needs --from FILE`);
  return context.observe();
}

function hintsFrom({ values }: Context): FileHints {
  const mark = values['from-mark'] as string | undefined;
  if (mark !== undefined && (!/^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(mark) || Number(mark) > 0xffffffff)) {
    throw new UsageError(`--from-mark \`${mark}\`: a number of 32 bits was expected, such as 0x1100000`);
  }
  return {
    ...(values['from-backend'] ? { backend: values['from-backend'] as 'nft' | 'legacy' } : {}),
    ...(values['from-family'] ? { family: values['from-family'] as 'ipv4' | 'ipv6' } : {}),
    ...(values['from-table'] ? { table: values['from-table'] as string } : {}),
    ...(mark === undefined ? {} : { mark: Number(mark) }),
  };
}
