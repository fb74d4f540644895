#!/bin/bash
# What: takes the server off this node. Running it again is success.
# Why:  a host of a pool goes back as clean as it came.
# Never: deletes outside its own directories; purges a package that others on the machine need.
set -euo pipefail
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

bash "${BASH_SOURCE[0]%/*}/stop.sh"
rm -rf -- "$STRAAS_PREFIX"/etc/@TYPE@ "$STRAAS_PREFIX"/var/lib/@TYPE@ "$STRAAS_PREFIX"/run/@TYPE@
straas_progress "removed" 100
