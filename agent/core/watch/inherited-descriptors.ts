/**
 * What systemd kept for us while we were not there (sd_listen_fds(3)): descriptors from 3 on, in the order of their names.
 * The variables are inherited by children of children, for whom they are not: LISTEN_PID says whom they are for.
 * Of two descriptors with one name the later counts; those without a name are `unknown` to systemd.
 */
export function inheritedDescriptors(env: Readonly<Record<string, string | undefined>>, pid: number): ReadonlyMap<string, number> {
  const count = env['LISTEN_FDS'] ?? '';
  if (env['LISTEN_PID'] !== String(pid) || !/^\d{1,4}$/.test(count)) return new Map();
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':');
  return new Map(Array.from({ length: Number(count) }, (_, at) => [names[at] || 'unknown', FIRST + at]));
}

const FIRST = 3;
