import type { Family } from 'node-iptables';

/** One connection to IMDS as its socket knew it. Nothing here is judged yet. */
export type Tried =
  /** No socket: the namespace is gone, or cannot be entered. */
  | { readonly is: 'not-entered'; readonly because: string }
  /** The namespace has no such family, or no way to IMDS: nothing was sent. */
  | { readonly is: 'no-route'; readonly code: string }
  | { readonly is: 'refused'; readonly code: string; readonly port: number }
  /** The connection stood, and nothing was asked on it. */
  | { readonly is: 'withheld'; readonly port: number }
  | { readonly is: 'silent'; readonly during: 'connect' | 'answer'; readonly port: number }
  /** It ended without an answer, or with one that is none. */
  | { readonly is: 'broken'; readonly because: string; readonly port: number }
  | { readonly is: 'answered'; readonly status: number; readonly body: string; readonly port: number };

/** One network in one family: a bare GET, a PUT for a token, and where there was one a GET with it. */
export interface TriedNetwork {
  readonly networkNamespace: string;
  readonly family: Family;
  readonly v1: Tried;
  readonly token: Tried;
  readonly v2: Tried | undefined;
}
