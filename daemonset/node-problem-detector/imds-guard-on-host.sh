#!/bin/sh
# From a privileged container with the host's processes: runs the host's own imds-guard, in its network and with its programs.
# 127 (there is none) and whatever nsenter says are neither 0 nor 1, so node-problem-detector makes Unknown of them.
nsenter --target 1 --mount --net -- /opt/imds-guard/imds-guard "$@"
status=$?
# nsenter's own failures are 1, which would mean that pods can reach IMDS: `check` never fails without its one line.
test $status -ne 1 || nsenter --target 1 --mount --net -- test -x /opt/imds-guard/imds-guard || status=2
exit $status
