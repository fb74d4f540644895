#!/bin/bash
# What: tells the conductor of a test that `validate` begins, then runs the real one.
# Why:  the first `validate` on a host says that the node may be serving.
# Never: looks by itself.
set -euo pipefail
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"
moody_ask validate
"$STRAAS_SCRIPTS/cmd/zookeeper/default/validate.sh" 9>&-
