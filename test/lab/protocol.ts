// What the test process and the residents of the lab say to each other, over Node's IPC channel. A resident is a
// long-lived process in one namespace, so that a request from a pod costs a message and not a process start (30 ms).
import type { AddressInfo } from 'node:net';

/** The fate of one exchange with IMDS, as a client in a pod sees it. */
export type Answer =
  | { readonly fate: 'reached'; readonly status: number; readonly body: string; readonly from: Endpoint }
  | { readonly fate: 'timeout'; readonly during: 'connect' | 'token' | 'answer' }
  | { readonly fate: 'refused'; readonly code: string };

/** The client's own address and port: what conntrack and the rules have seen. */
export type Endpoint = Pick<AddressInfo, 'address' | 'port'>;

/** `version` 1 sends a bare GET, 2 fetches a token first; a `reached` with status 401 is still a packet that arrived. */
export interface RequestOptions {
  readonly family?: 4 | 6;
  readonly version?: 1 | 2;
  readonly timeoutMs?: number;
  readonly path?: string;
  /** Only one request at a time can use a given port; with version 2 both connections use it, one after the other. */
  readonly localPort?: number;
}

export type ClientOrder =
  | { readonly id: number; readonly do: 'request'; readonly options: RequestOptions }
  | { readonly id: number; readonly do: 'open-live'; readonly live: number; readonly options: RequestOptions }
  | { readonly id: number; readonly do: 'request-live'; readonly live: number; readonly timeoutMs: number }
  | { readonly id: number; readonly do: 'close-live'; readonly live: number };

export interface ServerOptions {
  readonly addresses: readonly string[];
  readonly version1: boolean;
  readonly instanceId: string;
}

export type ServerOrder =
  | { readonly id: number; readonly do: 'listen'; readonly options: ServerOptions }
  | { readonly id: number; readonly do: 'seen' };

/** A request that arrived at the server. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly from: string;
  readonly status: number;
}

export type Order = ClientOrder | ServerOrder;
export type Reply =
  | { readonly id: number; readonly answer: Answer }
  | { readonly id: number; readonly seen: readonly Seen[] }
  | { readonly id: number; readonly failed: string };
