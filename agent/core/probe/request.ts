import type { Family } from 'node-iptables';
import { IMDS } from '../addresses.ts';

/** The only two paths that a probe ever asks for: neither tells a secret. */
export const TOKEN_PATH = '/latest/api/token';
export const METADATA_PATH = '/latest/meta-data/';
/** A token lives as short as IMDS allows, and is thrown away at once. */
const TOKEN_SECONDS = 1;

/** A token's alphabet is base64. What answers may be anybody, so nothing else goes into a header. */
export const isToken = (text: string): boolean => /^[\w+/=-]{1,256}$/.test(text);

const requestText = (method: string, path: string, family: Family, agent: string, ...headers: readonly string[]): string =>
  [`${method} ${path} HTTP/1.1`, `Host: ${family === 'ipv6' ? `[${IMDS.ipv6}]` : IMDS.ipv4}`, `User-Agent: ${agent}`, 'Accept: */*', 'Connection: close', ...headers, '', ''].join('\r\n');

/** @param agent the User-Agent: IMDS logs nothing, but a proxy may */
export const tokenRequest = (family: Family, agent: string): string => requestText('PUT', TOKEN_PATH, family, agent, `X-aws-ec2-metadata-token-ttl-seconds: ${TOKEN_SECONDS}`, 'Content-Length: 0');
export const metadataRequest = (family: Family, agent: string, token?: string): string => requestText('GET', METADATA_PATH, family, agent, ...(token === undefined ? [] : [`X-aws-ec2-metadata-token: ${token}`]));
