// The same node with something missing: words that come before a program, to run it among other mounts or as somebody else.
// Only that program sees the difference.
import type { Before } from './guard.ts';

/** Runs the program after a shell script, in a mount namespace of its own. */
export const among = (script: string): Before => ['unshare', '-m', 'sh', '-ec', `${script}\nexec "$@"`, 'sh'];

/**
 * Programs are gone, whatever directory they are in: the tool's PATH is fixed first, so the directories have to change.
 * Patterns as the shell has them.
 */
export const without = (...patterns: readonly string[]): Before =>
  among(
    ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/sbin', '/usr/local/bin']
      .map(
        (directory) => `
if [ -d ${directory} ] && [ ! -L ${directory} ]; then
  copy=$(mktemp -d /run/programs.XXXXXX)
  mount --bind ${directory} $copy
  links=$(mktemp -d /run/links.XXXXXX)
  [ -z "$(ls $copy)" ] || ln -s $copy/* $links/
  (cd $links; rm -f ${patterns.join(' ')})
  mounts="$mounts $links:${directory}"
fi`,
      )
      .join('\n') + '\nfor pair in $mounts; do mount --bind "${pair%%:*}" "${pair#*:}"; done',
  );

/** Somebody without any rights, in the same namespaces. */
export const nobody: Before = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

/** Root of a user namespace of its own: root by name, and without rights over the node's network namespace. */
export const rootByName: Before = ['unshare', '--user', '--map-root-user'];
