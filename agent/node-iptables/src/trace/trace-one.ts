import type { PacketClass } from '../packet/packet-class.ts';
import type { Path } from './path.ts';
import { walkPath } from './path.ts';
import type { Action, Hook, Place, TracedRule } from './program.ts';
import { Effort } from './walk.ts';

/** One packet's way through the chains, as it happens. */
export interface Trace {
  /** Every base chain the packet met, with the rules that took it. */
  readonly stops: readonly Stop[];
  readonly fate: Fate;
  /** Whether some rule on the way could not be decided, so that the way may be another. */
  readonly doubtful: boolean;
}

export type Fate =
  | { readonly is: 'passed' }
  | { readonly is: 'dropped'; readonly by: TracedRule }
  | { readonly is: 'redirected'; readonly by: TracedRule; readonly to: string };

export interface Stop {
  readonly hook: Hook;
  readonly priority: number;
  readonly place: Place;
  readonly chain: string;
  readonly taken: readonly Taken[];
}
export interface Taken {
  readonly rule: TracedRule;
  readonly action: Action;
}

/** Follows one packet (a class that holds one). Where a rule cannot be decided, the way is the one that goes furthest. */
export function traceOne(path: Path, packet: PacketClass): Trace {
  const stops: (Stop & { taken: Taken[] })[] = [];
  const ends: Fate[] = [];
  const passed = walkPath(
    path,
    [packet],
    {
      meets: ({ hook, priority, place, name }) => stops.push({ hook, priority, place, chain: name, taken: [] }),
      took: (_, rule, action) => stops.at(-1)?.taken.push({ rule, action }),
      dropped: (_, by) => ends.push({ is: 'dropped', by }),
      redirected: (_, by, to) => ends.push({ is: 'redirected', by, to }),
    },
    new Effort(),
  );
  const certain = passed.some((one) => one.doubts === undefined);
  const fate = passed.length > 0 ? { is: 'passed' as const } : (ends.at(-1) ?? { is: 'passed' as const });
  return { stops, fate, doubtful: passed.length > 0 ? !certain || ends.length > 0 : ends.length > 1 };
}
