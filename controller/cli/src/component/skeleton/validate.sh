#!/bin/bash
# What: one look at this node's server: process and port; sends facts and active|inactive.
# Why:  this decides whether the node works, and its facts are what the controller goes by.
# Never: waits for a better answer (the agent asks again), changes anything.
set -euo pipefail
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

conf=$STRAAS_PREFIX/etc/@TYPE@/straas
if [[ ! -x $conf/ctl ]] || ! pid=$("$conf/ctl" pid); then
  straas_result inactive
  straas_fail "the server's process is not running"
fi
read -r address port <"$conf/listen"
if ! timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' look "$address" "$port" 2>/dev/null; then
  straas_result inactive
  straas_wait "starting: process $pid runs, $address:$port does not answer yet"
fi
straas_facts "port:=$port"
straas_result active
straas_progress "answers at $address:$port" 100
