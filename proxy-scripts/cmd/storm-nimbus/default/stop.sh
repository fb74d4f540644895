#!/bin/bash
# What: stops this node's nimbus; one that does not run, or was never configured, is success.
# Why:  the counterpart of start.sh, bounded. Topologies go on without a nimbus; nothing is moved or submitted meanwhile.
# Never: removes anything, touches another instance's process on the same machine.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/storm/straas/storm-ctl
if [[ -x $ctl ]]; then
  "$ctl" stop || straas_fail "the nimbus could not be stopped; see the lines above"
fi
straas_progress "the nimbus is stopped"
