// The runtime's default list of system calls (what RuntimeDefault means to a kubelet), as runc takes it for a container with these
// capabilities. From the profile that Debian ships with its container tools: Podman's, which is Docker's but for little.
import { existsSync, readFileSync } from 'node:fs';

const profile = '/usr/share/containers/seccomp.json';

export const noProfile: string | false = existsSync(profile) ? false : `there is no ${profile} (golang-github-containers-common)`;

interface Condition {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
}
interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly object[] | null;
  readonly errnoRet?: number;
  readonly includes: Condition;
  readonly excludes: Condition;
}
interface Profile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly syscalls: readonly Rule[];
}

/** @param capabilities `CAP_NET_ADMIN`: some calls are allowed to who may use them anyway */
export function runtimeDefault(capabilities: readonly string[]): object {
  const { defaultAction, defaultErrnoRet, syscalls } = JSON.parse(readFileSync(profile, 'utf8')) as Profile;
  const [arch, architectures] = process.arch === 'arm64' ? (['arm64', ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']] as const) : (['amd64', ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']] as const);
  const holds = ({ caps = [], arches = [] }: Condition): boolean => caps.every(name => capabilities.includes(name)) && (arches.length === 0 || arches.includes(arch));
  const isExcluded = ({ caps = [], arches = [] }: Condition): boolean => caps.some(name => capabilities.includes(name)) || arches.includes(arch);
  return {
    defaultAction,
    defaultErrnoRet,
    architectures,
    syscalls: syscalls.filter(({ includes, excludes }) => holds(includes) && !isExcluded(excludes)).map(({ names, action, args, errnoRet }) => ({ names, action, ...(args ? { args } : {}), ...(errnoRet === undefined ? {} : { errnoRet }) })),
  };
}
