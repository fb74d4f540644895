#!/bin/bash
# What: stops this node's web server; one that does not run is success.
# Why:  the counterpart of start.sh.
# Never: waits for it: kill -9 has no ifs.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"
[[ -n ${MOODY_QUIET:-} ]] || moody_ask stop

pid_file=/var/lib/moody/pid
if [[ -r $pid_file ]] && [[ $(cat "/proc/$(<"$pid_file")/comm" 2>/dev/null) == mini_httpd ]]; then
  kill -9 "$(<"$pid_file")"
fi
rm -f "$pid_file"
straas_progress "mini_httpd is stopped"
