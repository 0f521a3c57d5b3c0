export { ProcessFirewall, type ProcessFirewallOptions } from './firewall.ts';
export { legacyTables, legacyTablesFile } from './legacy-tables.ts';
export { type Output, type Request, run } from './run.ts';
