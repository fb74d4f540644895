#!/bin/bash
# What: stops this node's NATS server; one that does not run, or was never configured, is success.
# Why:  the counterpart of start.sh, bounded: the server hands over what it leads, and is killed after 20 s.
# Never: removes anything, touches another instance's process on the same machine, takes the server out of the cluster.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/nats/straas/nats-ctl
if [[ -x $ctl ]]; then
  "$ctl" stop || straas_fail "the NATS server could not be stopped; see the lines above"
fi
straas_progress "the NATS server is stopped"
