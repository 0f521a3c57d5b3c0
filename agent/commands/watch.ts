import type { Command } from './context.ts';

export const watch: Command = async () => {
  throw new Error('not here yet');
};
