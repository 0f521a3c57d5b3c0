// What the test process and the agents of a kernel world say to each other. An agent lives in one namespace, so that a
// packet costs a message and not a process.

export type PodOrder = { readonly id: number } & (
  /** A connection on which one request has been answered; it stays until 'attempt' has asked over it. */
  | { readonly do: 'open'; readonly port: number }
  /** A request under `name`: on the open connection of that port, or else on a new one from that port. */
  | { readonly do: 'attempt'; readonly port: number; readonly live: boolean; readonly name: string; readonly waitMs: number }
);

/** `undefined` where nothing answered in time; otherwise how long it took. */
export interface PodReply {
  readonly id: number;
  readonly answeredMs: number | undefined;
}

export interface ServerOrder {
  readonly id: number;
}

/** The names of the requests that arrived since the last question. */
export interface ServerReply {
  readonly id: number;
  readonly served: readonly string[];
}
