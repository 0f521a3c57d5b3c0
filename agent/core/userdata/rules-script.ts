import type { Family } from 'node-iptables';
import { type DesiredRule, desired } from '../desired.ts';
import { GUARD_TABLE, bareGuardScript } from '../guard-table.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { hereDocument } from './quote.ts';

/**
 * The shell script that puts the rules in place before kubelet: those of `imds-guard rules`, by nothing but iptables. It
 * cannot fail for want of a network, a download or a file, and runs on the node, and in a bootstrap container of Bottlerocket's.
 */
export const rulesScript = (): string => `#!/bin/sh
# Keeps pods from the EC2 instance metadata service (IMDS), before kubelet starts and at every boot: the rules that
# \`imds-guard rules\` prints, each where it is missing. Needs no network and fetches nothing. Made by \`imds-guard userdata\`.
# Exit 0: those for IPv4 are in place. Exit 1: they are not, and kubelet must not start.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

# In a container of Bottlerocket's: the node's own programs, so that all on the node use the same backend.
root=
if test -d /.bottlerocket/rootfs; then root=/.bottlerocket/rootfs; fi
run() { if test -n "$root"; then chroot "$root" "$@"; else "$@"; fi; }
has() {
  for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
    if test -x "$root$folder/$1" || test -h "$root$folder/$1"; then return 0; fi
  done
  return 1
}
say() { echo "imds-guard: $*"; }

# fresh TABLE CHAIN MATCHES...: there is no such rule
fresh() {
  in=$1 chain=$2
  shift 2
  ! run "$iptables" -w 10 -t "$in" -C "$chain" "$@" 2>/dev/null
}
# rule TABLE -I|-A CHAIN MATCHES...
rule() {
  in=$1 how=$2 chain=$3
  shift 3
  run "$iptables" -w 10 -t "$in" -C "$chain" "$@" 2>/dev/null || run "$iptables" -w 10 -t "$in" "$how" "$chain" "$@"
}
# All at once where there are none of ours, as at boot; otherwise those that are missing.
rules() {
  case $1 in
    ipv4)
${ruleLines('ipv4')} ;;
    ipv6)
${ruleLines('ipv6')} ;;
  esac
}
# One that is there stays: it may be the daemon's.
table() {
  run nft -f - 2>/dev/null ${hereDocument('END', `create table inet ${GUARD_TABLE}\n${bareGuardScript()}`, ` || run nft list table inet ${GUARD_TABLE} >/dev/null`)}
}

# all PROGRAM FAMILY: by the node's own iptables; where that has failed before, by any that can. A kernel may lack what one needs.
all() {
  for iptables in "$1" "$1-nft" "$1-legacy"; do
    has "$iptables" || continue
    if rules "$2"; then say "$2: in place, by $iptables"; return 0; fi
    say "$2: $iptables could not put all rules in place"
    test "$tries" -ge 2 || return 1
  done
  return 1
}

# Somebody else may hold the lock, or have written at the same moment.
tries=1
until all iptables ipv4; do
  if test "$tries" -ge 5; then
    say "FAILED: there are no rules that keep pods from IMDS; why is above. kubelet does not start, so that no pod runs unguarded."
    say "Look: journalctl -u imds-guard-rules. When it is mended: systemctl start imds-guard-rules, then kubelet; or reboot."
    exit 1
  fi
  tries=$((tries + 1))
  sleep 2
done

# In front of every rule of iptables, where there is nft. Both families.
guarded=no
if has nft && table; then guarded=yes; fi

# Without IPv6 in the kernel there is nothing to block; IMDS answers by IPv6 only where it was switched on.
tries=2
if test -e /proc/net/if_inet6 && ! all ip6tables ipv6; then
  if test "$guarded" = yes; then say "ipv6: in place, by nft alone"
  else say "WARNING: no rules for IPv6. Where the instance has HttpProtocolIpv6 enabled, pods reach IMDS by it."; fi
fi
exit 0
`;

/** The tagged rule first: what proves the bare ones to be ours must never be missing where they are there. */
function ruleLines(family: Family): string {
  const { rules } = desired(DEFAULT_SETTINGS, [], [family]);
  const tagged = rules.filter(({ layer }) => layer === 'out-of-reach');
  const all = [...tagged, ...rules.filter(({ layer }) => layer === 'documented')];
  const fresh = tagged.map(({ table, text }) => `fresh ${table} ${text.replace(/^-A /, '')} && `).join('');
  return [
    `      ${fresh}run "$iptables-restore" --noflush --wait 10 ${hereDocument('END', restoreText(all), ' && return 0')}`,
    all.map((rule) => `      rule ${rule.table} ${commandOf(rule)}`).join(' &&\n'),
  ].join('\n');
}

const restoreText = (rules: readonly DesiredRule[]): string =>
  (['mangle', 'filter'] as const).map((table) => [`*${table}`, ...rules.filter((rule) => rule.table === table).map(commandOf), 'COMMIT', ''].join('\n')).join('');

const commandOf = ({ position, text }: DesiredRule): string => text.replace(/^-A/, position === 'first' ? '-I' : '-A');
