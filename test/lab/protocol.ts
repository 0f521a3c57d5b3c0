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

/**
 * What becomes of one kind of request: `ok` as IMDS does it, or a status with an empty body, or something that no client
 * should be waiting for, choking on or believing.
 */
export type Behaviour = 'ok' | 'hang' | 'reset' | 'not-http' | 'trickle' | 'endless-headers' | 'endless-body' | number;

export interface Service {
  readonly token: Behaviour;
  readonly metadata: Behaviour;
  /** Does it answer without a token? Only asked where `metadata` is `ok`. */
  readonly version1: boolean;
  /** `reset`: as soon as the connection stands, before anything is read. */
  readonly connection: 'ok' | 'reset';
}

export interface ServerOptions {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly service: Service;
  readonly instanceId: string;
}

export type ServerOrder =
  | { readonly id: number; readonly do: 'listen'; readonly options: ServerOptions }
  /** Nothing listens any more, and connections that stand are reset: the kernel answers. */
  | { readonly id: number; readonly do: 'close' }
  /** Changes the service for clients with these addresses; the empty one stands for everybody else, from whom the others differ. */
  | { readonly id: number; readonly do: 'serve'; readonly service: Partial<Service>; readonly to: readonly string[] }
  /** Passes connections on, as a proxy does that opens one of its own for each. */
  | { readonly id: number; readonly do: 'forward'; readonly from: Place; readonly to: Place }
  | { readonly id: number; readonly do: 'seen' };

export interface Place {
  readonly address: string;
  readonly port: number;
}

/** A request that arrived at the server. Status 0: it got none. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly from: string;
  readonly status: number;
  readonly userAgent: string;
  /** The TTL that was asked for with a PUT. */
  readonly ttlSeconds: string;
  /** What CloudWatch's MetadataNoToken counts is without. */
  readonly withToken: boolean;
}

export type Order = ClientOrder | ServerOrder;
export type Reply =
  | { readonly id: number; readonly answer: Answer }
  | { readonly id: number; readonly seen: readonly Seen[] }
  | { readonly id: number; readonly failed: string };
