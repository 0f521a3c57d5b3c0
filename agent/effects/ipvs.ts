import { readText } from './read-text.ts';

/** IPVS takes packets to its own addresses off the path before the forward hook, and sends them on by itself. */
export function ipvsBypasses(procNet: string): string[] {
  const lines = readText(`${procNet}/ip_vs`).split('\n').filter((line) => IMDS_IN_HEX.test(line) || /^FWM\s/.test(line));
  return lines.map((line) => `IPVS: ${line.trim()}`);
}

/** 169.254.169.254 and fd00:ec2::254 as /proc/net/ip_vs writes them. */
const IMDS_IN_HEX = /\bA9FEA9FE:|\[fd00:0?ec2:[0:]*0?254\]/i;
