import { fetchScript } from './fetch-script.ts';
import { hereDocument } from './quote.ts';
import { rulesScript } from './rules-script.ts';
import { FOLDER, KUBELETS, daemonUnit, fetchUnit, rulesUnit } from './units.ts';
import type { UserDataWanted } from './wanted.ts';

const UNITS = '/etc/systemd/system';

/**
 * The shell script that user data runs, before kubelet: writes the parts, and puts the rules in place. Whatever goes wrong in it,
 * kubelet does not start. It may run again and again, also on an image that has it all.
 */
export const setupScript = ({ executable, region }: Pick<UserDataWanted, 'executable' | 'region'>): string => `#!/bin/sh
# Keeps pods from the EC2 instance metadata service (IMDS) from before kubelet on, at this boot and every other.
# Made by \`imds-guard userdata\`. As root; may run again and again.
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
for kubelet in ${KUBELETS.join(' ')}; do
  mkdir -p "/run/systemd/system/$kubelet.d"
  printf '[Unit]\\nRequires=imds-guard-rules.service\\nAfter=imds-guard-rules.service\\n' >"/run/systemd/system/$kubelet.d/imds-guard.conf"
done
systemctl daemon-reload

mkdir -p ${FOLDER}
${put('0755', `${FOLDER}/rules.sh`, 'RULES_SCRIPT', rulesScript())}
${put('0644', `${UNITS}/imds-guard-rules.service`, 'RULES_UNIT', rulesUnit())}
${executable === undefined ? '' : `${put('0755', `${FOLDER}/fetch.sh`, 'FETCH_SCRIPT', fetchScript(executable, region))}\n${put('0644', `${UNITS}/imds-guard-fetch.service`, 'FETCH_UNIT', fetchUnit())}\n`}${put('0644', `${UNITS}/imds-guard.service`, 'DAEMON_UNIT', daemonUnit())}
sync

systemctl daemon-reload
systemctl enable imds-guard-rules.service || fail "imds-guard-rules.service cannot be enabled"
# Where it has run before, systemd would not run it again.
/bin/sh ${FOLDER}/rules.sh || fail "the rules could not be put in place"
systemctl start imds-guard-rules.service || fail "imds-guard-rules.service did not start"

# What follows waits for nothing, and nothing waits for it.
systemctl enable ${executable === undefined ? '' : 'imds-guard-fetch.service '}imds-guard.service
systemctl --no-block ${executable === undefined ? 'start imds-guard.service' : 'restart imds-guard-fetch.service'}

if test -e /etc/sysconfig/iptables && systemctl is-enabled --quiet iptables.service 2>/dev/null; then
  echo "imds-guard: iptables.service loads /etc/sysconfig/iptables at boot, as the old EKS snippet made it: all rules of one moment."
  echo "imds-guard: it is not needed any more. To end it (stop would flush the rules of kube-proxy; disable does not):"
  echo "imds-guard:   systemctl disable iptables.service && mv /etc/sysconfig/iptables /etc/sysconfig/iptables.before-imds-guard"
fi
echo "imds-guard: set up"
`;

const put = (mode: string, file: string, end: string, text: string): string => `put ${mode} ${file} ${hereDocument(end, text)}`;
