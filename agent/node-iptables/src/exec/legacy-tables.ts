import { readFileSync } from 'node:fs';
import type { Family } from '../sets/address.ts';

/**
 * The tables that the x_tables kernel code has by now, newest first. Asking a program for a table it does not have would
 * load a kernel module, which on an nft node makes the legacy backend look used: so one asks here first. A kernel
 * without the file has no table. Mode 0440: for root (of the network namespace) only, so others get 'unreadable'.
 */
export async function legacyTables(family: Family, procNet = '/proc/net'): Promise<readonly string[] | 'unreadable'> {
  try {
    return tableNames(readFileSync(legacyTablesFile(family, procNet), 'utf8'));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    if (hasCode(error, 'EACCES') || hasCode(error, 'EPERM')) return 'unreadable';
    throw error;
  }
}

export const legacyTablesFile = (family: Family, procNet = '/proc/net'): string =>
  `${procNet}/${family === 'ipv4' ? 'ip' : 'ip6'}_tables_names`;

export const tableNames = (text: string): string[] => text.split('\n').filter((name) => name !== '');

const hasCode = (error: unknown, code: string): boolean => error instanceof Error && 'code' in error && error.code === code;
