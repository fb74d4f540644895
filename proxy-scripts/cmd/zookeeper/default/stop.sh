#!/bin/bash
# What: stops this node's ZooKeeper server; a server that does not run, or was never configured, is success.
# Why:  the counterpart of start.sh, bounded: a server that ignores SIGTERM for 20 s is killed, which ZooKeeper's
#       write-ahead log is made for.
# Never: removes anything, touches another instance's process on the same machine.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/zookeeper/straas/zookeeper-ctl
if [[ -x $ctl ]]; then
  "$ctl" stop || straas_fail "ZooKeeper could not be stopped; see the lines above"
fi
straas_progress "ZooKeeper is stopped"
