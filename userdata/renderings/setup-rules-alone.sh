#!/bin/sh
# Keeps pods from the EC2 instance metadata service (IMDS) from before kubelet on, at this boot and every other.
# Made by `imds-guard userdata`. As root; may run again and again.
set -u
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

fail() {
  echo "imds-guard: FAILED: $*" >&2
  echo "imds-guard: kubelet does not start on this node, so that no pod runs unguarded" >&2
  exit 1
}
# A file is whole or not there: at the next boot half a script would be one that finds nothing to do.
put() { { cat >"$2.new" && chmod "$1" "$2.new" && mv -f "$2.new" "$2"; } || fail "$2 cannot be written"; }

# First, where it needs no disk: without the unit of the rules kubelet cannot start, and that is not there yet.
for kubelet in kubelet.service snap.kubelet-eks.daemon.service; do
  mkdir -p "/run/systemd/system/$kubelet.d"
  printf '[Unit]\nRequires=imds-guard-rules.service\nAfter=imds-guard-rules.service\n' >"/run/systemd/system/$kubelet.d/imds-guard.conf"
done
systemctl daemon-reload

mkdir -p /opt/imds-guard
put 0755 /opt/imds-guard/rules.sh <<'RULES_SCRIPT'
#!/bin/sh
# Keeps pods from the EC2 instance metadata service (IMDS), before kubelet starts and at every boot: the rules that
# `imds-guard rules` prints, each where it is missing. Needs no network and fetches nothing. Made by `imds-guard userdata`.
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
      fresh mangle FORWARD -d 169.254.169.254/32 -m comment --comment imds-guard -j DROP && run "$iptables-restore" --noflush --wait 10 <<'END' && return 0
*mangle
-A FORWARD -d 169.254.169.254/32 -m comment --comment imds-guard -j DROP
-A POSTROUTING -d 169.254.169.254/32 -o vlan+ -j DROP
COMMIT
*filter
-I FORWARD -d 169.254.169.254/32 -i eni+ -j DROP
COMMIT
END
      rule mangle -A FORWARD -d 169.254.169.254/32 -m comment --comment imds-guard -j DROP &&
      rule filter -I FORWARD -d 169.254.169.254/32 -i eni+ -j DROP &&
      rule mangle -A POSTROUTING -d 169.254.169.254/32 -o vlan+ -j DROP ;;
    ipv6)
      fresh mangle FORWARD -d fd00:ec2::254/128 -m comment --comment imds-guard -j DROP && run "$iptables-restore" --noflush --wait 10 <<'END' && return 0
*mangle
-A FORWARD -d fd00:ec2::254/128 -m comment --comment imds-guard -j DROP
-A POSTROUTING -d fd00:ec2::254/128 -o vlan+ -j DROP
COMMIT
*filter
-I FORWARD -d fd00:ec2::254/128 -i eni+ -j DROP
COMMIT
END
      rule mangle -A FORWARD -d fd00:ec2::254/128 -m comment --comment imds-guard -j DROP &&
      rule filter -I FORWARD -d fd00:ec2::254/128 -i eni+ -j DROP &&
      rule mangle -A POSTROUTING -d fd00:ec2::254/128 -o vlan+ -j DROP ;;
  esac
}
# One that is there stays: it may be the daemon's.
table() {
  run nft -f - 2>/dev/null <<'END' || run nft list table inet imds-guard >/dev/null
create table inet imds-guard
table inet imds-guard {
  chain forward {
    type filter hook forward priority -200; policy accept;
    ip daddr 169.254.169.254 counter drop
    ip6 daddr fd00:ec2::254 counter drop
  }
}
END
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
RULES_SCRIPT
put 0644 /etc/systemd/system/imds-guard-rules.service <<'RULES_UNIT'
# Rules that keep pods from the EC2 instance metadata service. Where they cannot be put in place, kubelet does not start.
[Unit]
Description=Rules that keep pods from the EC2 instance metadata service, before kubelet
Wants=network-pre.target
# Those load a saved firewall, and throw away what is there.
After=network-pre.target iptables.service ip6tables.service nftables.service netfilter-persistent.service firewalld.service ufw.service
Before=kubelet.service snap.kubelet-eks.daemon.service

[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=journal+console
StandardError=journal+console
ExecStart=/bin/sh /opt/imds-guard/rules.sh
TimeoutStartSec=600

[Install]
RequiredBy=kubelet.service snap.kubelet-eks.daemon.service
RULES_UNIT
put 0644 /etc/systemd/system/imds-guard.service <<'DAEMON_UNIT'
# The daemon: sees every change of the firewall, and repairs what matters. `imds-guard userdata --format script` installs it.
[Unit]
Description=Keep pods from the EC2 instance metadata service
Wants=imds-guard-rules.service
After=imds-guard-rules.service network-pre.target
ConditionFileIsExecutable=/opt/imds-guard/imds-guard
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=/opt/imds-guard/imds-guard watch
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
# It says twice in that time that it is well; one that hangs is killed, and started again with the table that systemd keeps.
WatchdogSec=60
# The guard table belongs to a socket. systemd keeps it while the daemon is away, so nobody else can change the table meanwhile.
FileDescriptorStoreMax=1
FileDescriptorStorePreserve=yes
# The firewall; packets from networks of pods; to enter those; whose processes they are; who changed a legacy table.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_AUDIT_READ
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=net
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
DAEMON_UNIT
sync

systemctl daemon-reload
systemctl enable imds-guard-rules.service || fail "imds-guard-rules.service cannot be enabled"
# Where it has run before, systemd would not run it again.
/bin/sh /opt/imds-guard/rules.sh || fail "the rules could not be put in place"
systemctl start imds-guard-rules.service || fail "imds-guard-rules.service did not start"

# What follows waits for nothing, and nothing waits for it.
systemctl enable imds-guard.service
systemctl --no-block start imds-guard.service

if test -e /etc/sysconfig/iptables && systemctl is-enabled --quiet iptables.service 2>/dev/null; then
  echo "imds-guard: iptables.service loads /etc/sysconfig/iptables at boot, as the old EKS snippet made it: all rules of one moment."
  echo "imds-guard: it is not needed any more. To end it (stop would flush the rules of kube-proxy; disable does not):"
  echo "imds-guard:   systemctl disable iptables.service && mv /etc/sysconfig/iptables /etc/sysconfig/iptables.before-imds-guard"
fi
echo "imds-guard: set up"
