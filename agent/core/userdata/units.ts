/** Where everything of ours is on a node. */
export const FOLDER = '/opt/imds-guard';
export const PROGRAM = `${FOLDER}/imds-guard`;

/** Ubuntu's is a snap. To name one that is not there does no harm. */
export const KUBELETS = ['kubelet.service', 'snap.kubelet-eks.daemon.service'] as const;

/** What loads a saved firewall at boot, and with that throws away whatever is there. */
const RESTORERS = ['iptables.service', 'ip6tables.service', 'nftables.service', 'netfilter-persistent.service', 'firewalld.service', 'ufw.service'];

/** `RequiredBy=`: where it fails, systemd does not start kubelet. */
export const rulesUnit = (): string => `# Rules that keep pods from the EC2 instance metadata service. Where they cannot be put in place, kubelet does not start.
[Unit]
Description=Rules that keep pods from the EC2 instance metadata service, before kubelet
Wants=network-pre.target
# Those load a saved firewall, and throw away what is there.
After=network-pre.target ${RESTORERS.join(' ')}
Before=${KUBELETS.join(' ')}

[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=journal+console
StandardError=journal+console
ExecStart=/bin/sh ${FOLDER}/rules.sh
TimeoutStartSec=600

[Install]
RequiredBy=${KUBELETS.join(' ')}
`;

/** Not oneshot: neither the boot nor kubelet waits for a download. */
export const fetchUnit = (): string => `# Fetches imds-guard by its hash, and starts it. The rules do not depend on it.
[Unit]
Description=Fetch imds-guard
Wants=network-online.target
After=network-online.target imds-guard-rules.service

[Service]
Type=simple
StandardOutput=journal+console
StandardError=journal+console
ExecStart=/bin/sh ${FOLDER}/fetch.sh

[Install]
WantedBy=multi-user.target
`;

/**
 * The daemon. What of systemd's hardening is not here would break it: it makes code while it runs (MemoryDenyWriteExecute),
 * enters networks of pods (RestrictNamespaces=yes), sees all processes (ProtectProc), and writes the xtables lock (/run). System calls are
 * named that are not allowed, for a systemd that does not know a group would otherwise allow none (before 231).
 */
export const daemonUnit = (): string => `# The daemon: sees every change of the firewall, and repairs what matters. \`imds-guard userdata --format script\` installs it.
[Unit]
Description=Keep pods from the EC2 instance metadata service
Wants=imds-guard-rules.service
After=imds-guard-rules.service network-pre.target
ConditionFileIsExecutable=${PROGRAM}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=${PROGRAM} watch
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
`;
