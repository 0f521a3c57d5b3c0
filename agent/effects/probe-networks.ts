import { randomInt } from 'node:crypto';
import type { Family } from 'node-iptables';
import { KernelError, NetlinkRequests, NetworkNamespaces, PacketTap, openTcpSocket } from 'node-iptables/kernel';
import { NETLINK_ROUTE, isReachableAddress, listAddresses, tcpFilter } from 'node-iptables/netlink';
import { IMDS_BYTES, IMDS_PORT } from '../core/addresses.ts';
import { PROBE_PORTS } from '../core/probe/pod-network.ts';
import { isToken, metadataRequest, tokenRequest } from '../core/probe/request.ts';
import { Sightings } from '../core/probe/sightings.ts';
import type { Tried, TriedNetwork } from '../core/probe/tried.ts';
import { exchange } from './imds-exchange.ts';

export interface ToTry {
  /** Undefined for the node's own network. */
  readonly path: string | undefined;
  readonly families: readonly Family[];
  /** Nothing but its ports tells its packets from those of others: they come by no interface of their own. */
  readonly isToldByPort: boolean;
}

export interface Trial {
  readonly tried: readonly TriedNetwork[];
  /** What passed the node's interfaces meanwhile; undefined, because, where nobody was permitted to look. */
  readonly sightings: Sightings | undefined;
  readonly unseen?: string;
}

/** Longer than a second: then a SYN goes out again, so that one that was lost is not taken for one that was dropped. */
const CONNECT_MS = 1300;
const ANSWER_MS = 900;
/** All in all less than three seconds, so that a health check that may take five can wait for it. */
const TOGETHER_MS = 2700;
/** How often what was seen is taken from the kernel, which keeps only so much. */
const DRAIN_MS = 50;
/** More at once, and a pod that floods IMDS has us do nothing else. */
const DRAIN_PACKETS = 2000;
const RECEIVE_BYTES = 8 * 1024 * 1024;
const HEADERS_BYTES = 128;
/** Ports that are tried for one socket: what is left of an earlier probe may hold one. */
const PORTS_AT_A_TIME = 8;

/**
 * Tries IMDS from all these networks at once, with real packets, and watches the node's interfaces meanwhile. No process is started
 * and this one never stays in another's namespace. Never rejects because of what a network is like.
 *
 * @param agent the User-Agent
 * @param sparing ask for nothing without a token where a token was had
 */
export async function probeNetworks(networks: readonly ToTry[], agent: string, sparing = false): Promise<Trial> {
  const namespaces = await NetworkNamespaces.open();
  const tap = await openTap();
  const sightings = 'because' in tap ? undefined : new Sightings();
  const drain = (): boolean => {
    if (!sightings || 'because' in tap) return true;
    const isAll = tap.drain(({ interfaceIndex, outgoing, bytes, forAnother }) => sightings.add(interfaceIndex, outgoing, bytes, forAnother), DRAIN_PACKETS);
    sightings.lost += tap.lost();
    return isAll;
  };
  const timer = setInterval(drain, DRAIN_MS);
  try {
    const prober = new Prober(namespaces, agent, sparing);
    const tried = await Promise.all(networks.flatMap(({ path, families, isToldByPort }) => families.map((family) => prober.probe({ path, family, ports: isToldByPort ? prober.ownPorts : prober.ports }))));
    // What nobody took is lost as well.
    if (!drain() && sightings) sightings.lost += 1;
    return { tried, sightings, ...('because' in tap ? { unseen: tap.because } : {}) };
  } finally {
    clearInterval(timer);
    if (!('because' in tap)) tap.close();
    namespaces.close();
  }
}

async function openTap(): Promise<PacketTap | { readonly because: string }> {
  const endpoints = (['ipv4', 'ipv6'] as const).map((family) => ({ family, address: IMDS_BYTES[family], port: IMDS_PORT }));
  try {
    return await PacketTap.open(tcpFilter(endpoints, HEADERS_BYTES), RECEIVE_BYTES);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return { because: error.code === 'EPERM' ? 'CAP_NET_RAW is needed to see packets' : error.message };
  }
}

/** Ports for the connections of one probe, each its own as far as they go. */
class Ports {
  private readonly first: number;
  private readonly count: number;
  private taken: number;

  constructor(first: number, last: number) {
    this.first = first;
    this.count = last - first + 1;
    this.taken = randomInt(this.count);
  }

  /** The next ones; `take` says which it was, for there may be one that is held. */
  next(): readonly number[] {
    return Array.from({ length: PORTS_AT_A_TIME }, (_, at) => this.first + ((this.taken + at) % this.count));
  }

  take(port: number): void {
    this.taken = port - this.first + 1;
  }
}

/** Networks that are told by nothing but their ports have these for themselves; each takes four at once. */
const OWN_PORTS = 128;

interface Way {
  readonly path: string | undefined;
  readonly family: Family;
  readonly ports: Ports;
}

class Prober {
  readonly ports = new Ports(PROBE_PORTS.first, PROBE_PORTS.last - OWN_PORTS);
  readonly ownPorts = new Ports(PROBE_PORTS.last - OWN_PORTS + 1, PROBE_PORTS.last);
  private readonly namespaces: NetworkNamespaces;
  private readonly agent: string;
  private readonly sparing: boolean;

  constructor(namespaces: NetworkNamespaces, agent: string, sparing: boolean) {
    this.namespaces = namespaces;
    this.agent = agent;
    this.sparing = sparing;
  }

  async probe(way: Way): Promise<TriedNetwork> {
    const { path, family } = way;
    const untilMs = performance.now() + TOGETHER_MS;
    const asked = this.ask(way, tokenRequest(family, this.agent), untilMs);
    const mayAsk = this.sparing ? asked.then((token) => !(token.is === 'answered' && token.status === 200)) : undefined;
    const [v1, token] = await Promise.all([this.ask(way, metadataRequest(family, this.agent), untilMs, mayAsk), asked]);
    const v2 = token.is === 'answered' && token.status === 200 && isToken(token.body) ? await this.ask(way, metadataRequest(family, this.agent, token.body), untilMs) : undefined;
    return { networkNamespace: path ?? 'node', family, v1, token: token.is === 'answered' ? { ...token, body: isToken(token.body) ? 'a token' : '' } : token, v2 };
  }

  private async ask(way: Way, request: string, untilMs: number, mayAsk?: Promise<boolean>): Promise<Tried> {
    const opened = this.open(way);
    if ('is' in opened) return opened;
    const left = Math.max(1, untilMs - performance.now());
    const tried = await exchange(opened.fd, opened.port, way.family, request, { connectMs: Math.min(CONNECT_MS, left), answerMs: Math.min(ANSWER_MS, left), ...(mayAsk ? { mayAsk } : {}) });
    // A pod may have a route for every port but ours.
    return tried.is === 'no-route' && this.hasAddress(way) ? { is: 'refused', code: tried.code, port: opened.port } : tried;
  }

  private hasAddress({ path, family }: Way): boolean {
    if (path === undefined) return false;
    try {
      return this.namespaces.inside(path, (c) => {
        const requests = NetlinkRequests.openHere(c, NETLINK_ROUTE);
        try {
          let has = false;
          requests.list(listAddresses(family), (message) => {
            has ||= isReachableAddress(message);
          });
          return has;
        } finally {
          requests.close();
        }
      });
    } catch {
      return true;
    }
  }

  private open({ path, family, ports }: Way): { readonly fd: number; readonly port: number } | Tried {
    const next = ports.next();
    try {
      const opened = path === undefined ? openTcpSocket(this.namespaces.libc, family, next) : this.namespaces.inside(path, (c) => openTcpSocket(c, family, next));
      ports.take(opened.port);
      return opened;
    } catch (error) {
      ports.take(next.at(-1)!);
      if (error instanceof KernelError && error.code === 'EAFNOSUPPORT') return { is: 'no-route', code: error.code };
      return { is: 'not-entered', because: error instanceof Error ? error.message : String(error) };
    }
  }
}
