import { IptablesError } from 'node-iptables';
import { run } from 'node-iptables/exec';
import type { Settings } from '../core/settings.ts';
import type { Print } from './observe-node.ts';

/** Runs a program for what it prints; undefined when it is not installed or says no. */
export const programPrinter =
  (settings: Settings, path: string | undefined): Print =>
  async (program, args, stdin) => {
    try {
      return (await run({ program, args, stdin, timeoutMs: settings.timeoutSeconds * 1000, path })).stdout;
    } catch (error) {
      if (error instanceof IptablesError) return undefined;
      throw error;
    }
  };
