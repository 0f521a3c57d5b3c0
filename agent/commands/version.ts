import { type Command, json } from './context.ts';

/** What this is, from what it was built with. Looks at nothing else, not even at the settings. */
export const version: Command = async ({ build, output, print }) => {
  const built = await build();
  print(output === 'json' ? json(built) : `imds-guard ${built.version} (commit ${built.commit}, node ${built.node}, ${built.platform} ${built.arch})\n`);
  return 0;
};
