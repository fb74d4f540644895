#!/bin/bash
# What: stops this node's supervisor and its workers; where none run, or nothing was ever configured, it is success.
# Why:  the counterpart of start.sh, bounded. Workers outlive their supervisor, so stopping the node means stopping them
#       too; the nimbus starts their work elsewhere after nimbus.task.timeout.secs.
# Never: removes anything, touches another instance's process on the same machine.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/storm/straas/storm-ctl
if [[ -x $ctl ]]; then
  "$ctl" stop || straas_fail "the supervisor could not be stopped; see the lines above"
fi
straas_progress "the supervisor is stopped"
