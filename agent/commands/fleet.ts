import { UsageError } from '../config.ts';
import { type FleetNode, fleetNode, fleetOf, isLeftOut } from '../core/kubernetes/fleet.ts';
import { fleetText } from '../core/kubernetes/text-fleet.ts';
import { type Command, EXIT, json } from './context.ts';

/** Every node's answer, from conditions alone. Exit 0 when each is blocked, 1 when one is open, 2 when one is unknown. */
export const fleet: Command = async ({ values, output, print, eachNode }) => {
  const nodes: FleetNode[] = [];
  let leftOut = 0;
  const nowMs = Date.now();
  try {
    await eachNode({ context: values['context'] as string | undefined, selector: values['selector'] as string | undefined }, (node) => {
      if (isLeftOut(node)) leftOut += 1;
      else nodes.push(fleetNode(node, nowMs));
    });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    process.stderr.write(`imds-guard: ${error instanceof Error ? error.message : String(error)}\n`);
    return EXIT.unknown;
  }
  const found = fleetOf(nodes, leftOut);
  print(output === 'json' ? json(found) : fleetText(found, values['all'] === true));
  return EXIT[found.answer];
};
