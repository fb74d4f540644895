#!/bin/bash
# What: stops this node's server; one that is so already is success.
# Why:  after a reboot or on request it must work from what the config stage left on the disk, without Puppet.
# Never: renders configuration, waits for other nodes.
set -euo pipefail
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/@TYPE@/straas/ctl
[[ -x $ctl ]] || exit 0
"$ctl" stop || straas_fail "the server did not stop; see the lines above"
