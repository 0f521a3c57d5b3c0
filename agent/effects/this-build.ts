import { createHash } from 'node:crypto';
import { COMMIT, VERSION } from '../version.ts';

/** What is running. */
export interface Build {
  readonly version: string;
  /** As git names it, with `-dirty` where files were changed; `unknown` where the build could not tell. */
  readonly commit: string;
  /** The version of Node. */
  readonly node: string;
  readonly platform: string;
  readonly arch: string;
  /** Of the bill of materials that was built with it: packages.json. */
  readonly sbomSha256: string;
}

export const thisBuild = (billOfMaterials: string): Build => ({
  version: VERSION,
  commit: COMMIT,
  node: process.versions.node,
  platform: process.platform,
  arch: process.arch,
  sbomSha256: createHash('sha256').update(billOfMaterials).digest('hex'),
});
