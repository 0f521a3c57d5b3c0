import { existsSync } from 'node:fs';
import type { Family } from 'node-iptables';

/** Whether the kernel speaks a family at all: it may be built or booted without IPv6. */
export const hasFamily = (family: Family, procNet: string): boolean => family === 'ipv4' || existsSync(`${procNet}/if_inet6`);

