#!/bin/bash
# What: tells the conductor of a test that `validate` begins, runs the real one, and tells how it ended.
# Why:  a node that says it is down may be configured out of turn; one that says it is up may not.
# Never: looks by itself.
set -euo pipefail
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"
moody_ask validate
code=0
"$STRAAS_SCRIPTS/cmd/zookeeper/default/validate.sh" 9>&- || code=$?
if [[ $code == 0 ]]; then moody_ask up; else moody_ask down; fi
exit "$code"
