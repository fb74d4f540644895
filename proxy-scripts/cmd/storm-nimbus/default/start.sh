#!/bin/bash
# What: starts this node's nimbus; one that already runs is success.
# Why:  after a reboot, or on a user's request, the daemon must come up from what the config stage left on the disk,
#       without Puppet and without a controller. The control script that Puppet uses is the one place that knows how.
# Never: renders configuration, waits for the cluster (validate.sh reports that).
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/storm/straas/storm-ctl
[[ -x $ctl ]] || straas_fail "there is no $ctl: the config stage has not run on this node, so there is nothing to start"
"$ctl" start || straas_fail "the nimbus could not be started; see the lines above"
straas_progress "the nimbus is started"
