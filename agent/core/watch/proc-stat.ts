export interface ProcStat {
  readonly parentPid: number;
  /** In ticks since the machine started: with the pid, it tells a process from a later one of the same number. */
  readonly startTicks: number;
}

/**
 * /proc/PID/stat: `4127 (iptables-nft-re) S 4124 …`, the start as field 22. The name in parentheses is whatever the process
 * calls itself, `) R 1 (` included; what follows it has only digits and one letter, so the last parenthesis is the end.
 */
export function parseStat(text: string): ProcStat | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).trimEnd().split(' ');
  const [parentPid, startTicks] = [fields[1], fields[19]];
  if (!text.includes(')') || !isNumber(parentPid) || !isNumber(startTicks)) return undefined;
  return { parentPid: Number(parentPid), startTicks: Number(startTicks) };
}

const isNumber = (field: string | undefined): field is string => field !== undefined && /^\d+$/.test(field);
