/** The version of package.json; a test compares them. */
export const VERSION = '0.1.0';

/** What was checked out when this was built, `-dirty` where it was changed; `unknown` where that could not be told. */
export const COMMIT: string = typeof __commit === 'undefined' ? 'unknown' : __commit;

/** The build puts it there. */
declare const __commit: string | undefined;
