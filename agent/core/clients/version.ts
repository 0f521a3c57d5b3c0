/** What was counted of one client, both families and all of its interfaces together. */
export interface Asked {
  /** Connections begun. A connection that is refused begins several times: SYNs are sent again. */
  readonly attempts: number;
  readonly puts: number;
  readonly gets: number;
  /** For how long what it does has been counted, at least. */
  readonly watchedMs?: number;
  readonly lastGetMsAgo?: number;
}

/** Which version of IMDS a client uses: `v1` breaks first, when tokens become required. */
export interface ClientVersion {
  readonly version: 'v1' | 'v2' | 'attempts-only';
  /** What keeps it from being certain, in a sentence. */
  readonly doubt?: string;
}

/** X-aws-ec2-metadata-token-ttl-seconds is at most 21600 (EC2 user guide). */
const LONGEST_TOKEN_MS = 6 * 3_600_000;

/**
 * Whoever asks for a token uses version 2; whether each of its GETs carried one no rule sees. Who only ever sends GETs uses version
 * 1, or a token from before: not so after six hours, for no token lives longer.
 *
 * @param keptMs for how long a PUT is remembered: of an older GET nobody knows whether one came before it
 */
export function versionOf({ puts, gets, watchedMs, lastGetMsAgo }: Asked, mode: 'enforce' | 'observe', seesPayload: boolean, keptMs: number): ClientVersion {
  if (puts > 0) return { version: 'v2' };
  if (gets > 0) {
    const isCertain = watchedMs !== undefined && lastGetMsAgo !== undefined && watchedMs - lastGetMsAgo >= LONGEST_TOKEN_MS && lastGetMsAgo + LONGEST_TOKEN_MS <= keptMs;
    return { version: 'v1', ...(isCertain ? {} : { doubt: 'only GETs were seen: a v1 client, or a token fetched before counting began' }) };
  }
  if (!seesPayload) return { version: 'attempts-only', doubt: 'this kernel cannot look into payloads' };
  return { version: 'attempts-only', doubt: mode === 'enforce' ? 'a connection that is refused never comes to a request' : 'it connected, and sent neither a PUT nor a GET' };
}
