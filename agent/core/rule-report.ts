import type { Action, Packet, Place, Trace, TracedRule } from 'node-iptables';
import type { RuleReport, StopReport, WitnessReport } from './report.ts';

/** A rule as a reader finds it again: `iptables-nft -t filter`, chain, line. */
export const ruleReport = ({ place, chain, number, text }: TracedRule): RuleReport => ({
  backend: place.backend,
  family: place.family,
  table: place.table,
  chain,
  number,
  rule: text,
});

export const witnessReport = (packet: Packet, trace: Trace): WitnessReport => ({ packet, path: pathReport(trace) });

export const pathReport = (trace: Trace): StopReport[] =>
  trace.stops.map(({ hook, priority, place, chain, taken }) => ({
    hook,
    priority,
    backend: place.backend,
    family: place.family,
    table: place.table,
    chain,
    rules: taken.map(({ rule, action }) => ({ ...ruleReport(rule), does: actionText(action) })),
  }));

export function actionText(action: Action): string {
  switch (action.do) {
    case 'jump':
    case 'goto':
      return `${action.do} ${action.chain}`;
    case 'drop':
      return action.how.toLowerCase();
    case 'xmark':
      return `${action.on} ^= 0x${action.value.toString(16)} of 0x${action.mask.toString(16)}`;
    case 'copy-mark':
      return action.to === 'mark' ? 'restore mark' : 'save mark';
    case 'blur':
      return `${action.on} set`;
    case 'redirect':
      return `redirect to ${action.to}`;
    case 'unread':
      return 'unread';
    case 'nothing':
      return 'go on';
    default:
      return action.do;
  }
}

/** `iptables-nft filter`, `nft inet imds-guard` */
export const placeText = ({ backend, family, table }: Pick<Place, 'backend' | 'family' | 'table'>): string =>
  backend === 'nft-native' ? `nft ${family} ${table}` : `${family === 'ip6' ? 'ip6tables' : 'iptables'}-${backend} ${table}`;
