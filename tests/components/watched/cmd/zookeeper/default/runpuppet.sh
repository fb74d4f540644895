#!/bin/bash
# What: tells the conductor of a test that `config` begins, then runs everybody's runpuppet.sh.
# Why:  that a node is disturbed has to be known from the node, not from what the controller believes.
# Never: tells of a look for drift, which disturbs nobody; lets the daemon that Puppet starts inherit descriptor 9.
set -euo pipefail
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"
[[ ${STRAAS_NOOP:-0} == 1 ]] || moody_ask config
"$STRAAS_SCRIPTS/cmd/default/runpuppet.sh" 9>&-
