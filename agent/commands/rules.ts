import { desired } from '../core/desired.ts';
import { guardScript } from '../core/guard-table.ts';
import type { Observed } from '../core/observed.ts';
import { plan } from '../core/plan.ts';
import { type Command, json } from './context.ts';

const NOTHING_THERE: Observed = {
  rulesets: [], nft: undefined, failures: [], bypasses: [], patterns: [], families: ['ipv4', 'ipv6'], startMark: 0, assumed: [], hostBackend: undefined,
};

/** The desired rules as a restore would write them where nothing is there yet. Looks at nothing. */
export const rules: Command = async ({ settings, values, output, print }) => {
  const wanted = desired(settings, [], ['ipv4', 'ipv6']);
  const backend = settings.backend === 'auto' ? 'nft' : settings.backend;
  const steps = plan(wanted, NOTHING_THERE, backend);
  const payloadOf = (family: 'ipv4' | 'ipv6'): string => steps.map((step) => (step.do === 'restore' && step.family === family ? step.payload : '')).join('');
  const family = (values['family'] as 'ipv4' | 'ipv6' | undefined) ?? 'ipv4';
  const guard = wanted.guard === 'none' || wanted.guard === 'watched' ? {} : { nft: guardScript(wanted.guard) };
  // In mode observe there is nothing for iptables to do.
  print(output === 'json' ? json({ ipv4: payloadOf('ipv4'), ipv6: payloadOf('ipv6'), ...guard, rules: wanted.rules }) : payloadOf(family));
  return 0;
};
