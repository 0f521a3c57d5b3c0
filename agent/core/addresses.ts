import type { Family } from 'node-iptables';

/** The instance metadata service (EC2 user guide, "Access instance metadata"). Never a wider block than these two. */
export const IMDS: Readonly<Record<Family, string>> = { ipv4: '169.254.169.254', ipv6: 'fd00:ec2::254' };

/** As a rule names it. */
export const IMDS_BLOCK: Readonly<Record<Family, string>> = { ipv4: `${IMDS.ipv4}/32`, ipv6: `${IMDS.ipv6}/128` };

/** As it stands in a packet. */
export const IMDS_BYTES: Readonly<Record<Family, readonly number[]>> = { ipv4: [169, 254, 169, 254], ipv6: [0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54] };

export const IMDS_PORT = 80;

export interface Neighbour {
  readonly family: Family;
  readonly address: string;
  readonly what: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** 'delivered': an address of the node itself, so the packet meets INPUT and never FORWARD. */
  readonly way: 'forwarded' | 'delivered';
}

/**
 * Link-local services that pods need and that a careless rule (169.254.0.0/16) would cut: reported, never judged.
 * Sources: EKS user guide (Pod Identity), AWS whitepaper "IPv6 on AWS" (resolver, time), KEP-1024 (NodeLocal DNS).
 */
export const NEIGHBOURS: readonly Neighbour[] = [
  { family: 'ipv4', address: '169.254.170.23', what: 'EKS Pod Identity agent', protocol: 'tcp', port: 80, way: 'delivered' },
  { family: 'ipv4', address: '169.254.169.253', what: 'VPC DNS resolver', protocol: 'udp', port: 53, way: 'forwarded' },
  { family: 'ipv4', address: '169.254.169.123', what: 'Amazon Time Sync', protocol: 'udp', port: 123, way: 'forwarded' },
  { family: 'ipv4', address: '169.254.20.10', what: 'NodeLocal DNSCache', protocol: 'udp', port: 53, way: 'delivered' },
  { family: 'ipv6', address: 'fd00:ec2::23', what: 'EKS Pod Identity agent', protocol: 'tcp', port: 80, way: 'delivered' },
  { family: 'ipv6', address: 'fd00:ec2::253', what: 'VPC DNS resolver', protocol: 'udp', port: 53, way: 'forwarded' },
  { family: 'ipv6', address: 'fd00:ec2::123', what: 'Amazon Time Sync', protocol: 'udp', port: 123, way: 'forwarded' },
];
