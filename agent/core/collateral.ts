import { CT_STATE, type BaseChain, type PacketClass, TCP, UDP, UNKNOWN_BITS, addressBlock, anyPacket, judge, knownBits, nameSet } from 'node-iptables';
import type { Neighbour } from './addresses.ts';
import type { Collateral } from './report.ts';
import { ruleReport } from './rule-report.ts';
import { notToPods } from './targets.ts';

/** Whether a pod still gets to a service beside IMDS: the request alone, for DNS and NTP need no handshake. */
export function collateralOf(neighbour: Neighbour, pod: string, chains: readonly BaseChain[], startMark: number | undefined): Collateral {
  const { family, address, what, protocol, port, way } = neighbour;
  const request: PacketClass = {
    ...anyPacket(family),
    iif: nameSet(pod),
    oif: notToPods([pod]),
    dst: addressBlock(family, address)!,
    proto: protocol === 'tcp' ? TCP : UDP,
    dport: [port, port + 1],
    ctstate: CT_STATE.NEW,
    flags: protocol === 'tcp' ? { known: 0x17, value: 2 } : UNKNOWN_BITS,
    mark: startMark === undefined ? UNKNOWN_BITS : knownBits(startMark),
    toNode: way === 'delivered',
  };
  const judgement = judge(chains, { request, likely: request, picks: { interfaces: ['ens5', 'eth0'], sourcePort: 40000 }, way, requestOnly: true });
  const result = { family, address, what, protocol, port, answer: judgement.answer };
  const by = judgement.answer === 'blocked' ? judgement.proof[0] : undefined;
  return by ? { ...result, by: ruleReport(by) } : result;
}
