export { nftBaseChains } from './base-chains.ts';
export type { NftChain, NftFamily, NftFlowtable, NftRule, NftRuleset, NftSet, NftTable } from './model.ts';
export { type OffPath, offPath } from './off-path.ts';
export { parseNftJson } from './parse-json.ts';
export { parseNftText } from './parse-text.ts';
export { readNftRule } from './read-rule.ts';
export type { Surroundings } from './surroundings.ts';
