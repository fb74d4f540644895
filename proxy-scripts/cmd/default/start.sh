#!/bin/bash
# What: starts this node's daemon; one that already runs is success.
# Why:  after a reboot, or on a user's request, the service must come up from what the config stage left on the disk,
#       without Puppet and without a controller. The control script that Puppet uses is the one place that knows how.
# Never: renders configuration, waits until the daemon serves (validate.sh reports that).
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

[[ -x $straas_ctl ]] ||
  straas_fail "there is no $straas_ctl: the config stage has not run on this node, so there is nothing to start"
"$straas_ctl" start || straas_fail "$STRAAS_ROLE could not be started; see the lines above"
straas_progress "$STRAAS_ROLE is started"
